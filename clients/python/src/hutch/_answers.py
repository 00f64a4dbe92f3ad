"""Reads the `data` of an HTTP answer, or makes the exception for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from ._errors import APIConnectionError, APIError, APITimeoutError, class_for

T = TypeVar("T")


def read(answer: httpx.Response, convert: Callable[[Any], T]) -> T:
    """Returns the converted `data` of the envelope. Raises APIError for an error status,
    for an answer without an envelope, and for `data` that lacks a field."""
    content = _data(answer)
    try:
        return convert(content)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        detail = f"{type(error).__name__}: {error}"
        text = f"{answer.status_code} from {answer.url} with unexpected data: {detail}"
        raise _error(answer, text, answer.json()) from error


def _data(answer: httpx.Response) -> Any:
    try:
        envelope = answer.json()
    except ValueError:
        envelope = None
    if not isinstance(envelope, dict) or "data" not in envelope:
        text = f"{answer.status_code} from {answer.url}, which is not an answer of Hutch"
        raise _error(answer, text, {})
    if answer.status_code >= 400:
        inner = envelope["data"]
        detail = inner.get("error") if isinstance(inner, dict) else None
        text = detail or envelope.get("message") or f"status {answer.status_code}"
        raise _error(answer, str(text), envelope)
    return envelope["data"]


def lost(error: httpx.HTTPError, path: str) -> APIConnectionError:
    """The exception for a request without an answer."""
    kind = APITimeoutError if isinstance(error, httpx.TimeoutException) else APIConnectionError
    return kind(f"no answer to {path}: {str(error) or type(error).__name__}")


def _error(answer: httpx.Response, text: str, envelope: dict[str, Any]) -> APIError:
    code, inner = envelope.get("code"), envelope.get("data")
    return class_for(answer.status_code)(
        text,
        status=answer.status_code,
        code=code if isinstance(code, int) else None,
        data=inner if isinstance(inner, dict) else None,
        body=answer.text,
        retry_after=_seconds(answer.headers.get("retry-after")),
    )


def _seconds(header: str | None) -> float | None:
    """The seconds of a Retry-After header, which may be a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    if header.isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    # A date with the zone -0000 has no tzinfo. It is UTC.
    date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
