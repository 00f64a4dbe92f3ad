"""Run code in sandboxes on your own Kubernetes.

    from hutch import SandboxManager

    with SandboxManager() as manager, manager.create() as sandbox:
        print(sandbox.run("echo hi").stdout)

Three layers: a `SandboxManager` makes and ends sandboxes, a `Sandbox` is one of
them, an `ExecutionSession` keeps a working directory, variables and functions from
command to command. `hutch.aio` has the same for asyncio.
"""

from .errors import CommandError, SandboxError
from .models import Credentials, RunResult
from .sync import ExecutionSession, Sandbox, SandboxManager

__all__ = [
    "CommandError",
    "Credentials",
    "ExecutionSession",
    "RunResult",
    "Sandbox",
    "SandboxError",
    "SandboxManager",
]
