"""What goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models import RunResult


class SandboxError(Exception):
    """The service refused a request, or did not answer it.

    `status` is the HTTP status, or None where there was no answer; `body` is the
    answer's body, read as JSON where it was JSON.
    """

    def __init__(self, message: str, status: int | None = None, body: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class CommandError(SandboxError):
    """A command that was to succeed did not; `result` has what it printed."""

    def __init__(self, result: RunResult) -> None:
        last = result.stderr.strip().splitlines()[-1:]
        detail = f": {last[0]}" if last else ""
        super().__init__(f"{result.command!r} ended with {result.exit_code}{detail}", 200)
        self.result = result
