"""The values that answers return and requests take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._errors import CommandError


@dataclass(frozen=True)
class RunResult:
    """The result of a command. `stdout` and `stderr` lack one trailing newline."""

    command: str
    exit_code: int
    stdout: str
    stderr: str
    duration_ms: float
    timed_out: bool = False
    truncated: bool = False
    session_id: str | None = None

    @property
    def success(self) -> bool:
        """True if the exit code is 0."""
        return self.exit_code == 0

    def check(self) -> RunResult:
        """Returns this result. Raises CommandError if the command failed."""
        if not self.success:
            raise CommandError(self)
        return self

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> RunResult:
        result = data["result"]
        return cls(
            command=result["command"],
            exit_code=result["exitCode"],
            stdout=result["stdout"],
            stderr=result["stderr"],
            duration_ms=result["duration"],
            timed_out=result.get("timedOut", False),
            truncated=result.get("truncated", False),
            session_id=data.get("sessionId"),
        )


@dataclass(frozen=True)
class Credentials:
    """The keys of a bucket. `repr` hides the secret key."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
