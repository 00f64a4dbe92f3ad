"""Run code in sandboxes on your own Kubernetes.

    from hutch import SandboxManager

    with SandboxManager() as manager, manager.create() as sandbox:
        print(sandbox.run("echo hi").stdout)

Three layers: a `SandboxManager` creates and destroys sandboxes, a `Sandbox` is one of
them, an `ExecutionSession` keeps a working directory, variables and functions between
commands. `hutch.aio` has the same classes for asyncio.
"""

from ._errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    CommandError,
    ConflictError,
    HutchError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from ._models import Credentials, RunResult
from ._sync import ExecutionSession, Sandbox, SandboxManager

__version__ = "0.1.0"

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "CommandError",
    "ConflictError",
    "Credentials",
    "ExecutionSession",
    "HutchError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "RunResult",
    "Sandbox",
    "SandboxManager",
    "ServerError",
]
