"""The exceptions that this package raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._models import RunResult


class HutchError(Exception):
    """Base class of all exceptions of this package."""


class APIConnectionError(HutchError):
    """The service did not answer. It may have processed the request."""


class APITimeoutError(APIConnectionError):
    """The service did not answer in time. It may have processed the request."""


class APIError(HutchError):
    """The service answered with an error, or with something other than its envelope."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: int | None = None,
        data: Mapping[str, object] | None = None,
        body: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        #: HTTP status of the answer.
        self.status = status
        #: `code` of the envelope; None if the answer has no envelope.
        self.code = code
        #: `data` of the envelope; empty if the answer has no envelope.
        self.data: Mapping[str, object] = data or {}
        #: The body of the answer as text.
        self.body = body
        #: Seconds to wait before the next attempt, from the Retry-After header.
        self.retry_after = retry_after


class BadRequestError(APIError):
    """400: a field is missing or invalid."""


class AuthenticationError(APIError):
    """401: the API key is missing or invalid."""


class PermissionDeniedError(APIError):
    """403: the API key does not allow this request."""


class NotFoundError(APIError):
    """404: the file, session or mount does not exist."""


class ConflictError(APIError):
    """409: the object exists already, or is in use."""


class RateLimitError(APIError):
    """429: too many requests. `retry_after` is the wait in seconds, if given."""


class ServerError(APIError):
    """5xx: the service, or a proxy in front of it, failed."""


class CommandError(HutchError):
    """A checked command failed. `result` has its exit code and output."""

    def __init__(self, result: RunResult) -> None:
        last = result.stderr.strip().splitlines()[-1:]
        detail = f": {last[0]}" if last else ""
        super().__init__(f"{result.command!r} ended with {result.exit_code}{detail}")
        self.result = result


_BY_STATUS: Mapping[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    429: RateLimitError,
}


def class_for(status: int) -> type[APIError]:
    """The exception class for an HTTP status."""
    if status >= 500:
        return ServerError
    return _BY_STATUS.get(status, APIError)
