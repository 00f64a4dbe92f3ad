"""Stores a program as a file in the sandbox and builds the command that runs it."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Sequence

#: Interpreters by language. Another language is used as the interpreter's name.
INTERPRETERS = {
    "python": "python3",
    "bash": "bash",
    "sh": "sh",
    "node": "node",
    "javascript": "node",
    "ruby": "ruby",
    "perl": "perl",
}


def path() -> str:
    """A unique path for a script."""
    return f"/tmp/hutch-script-{uuid.uuid4().hex}"


def command(language: str, script: str, arguments: Sequence[str]) -> str:
    """The command that runs the script."""
    interpreter = INTERPRETERS.get(language, language)
    return shlex.join([interpreter, script, *arguments])
