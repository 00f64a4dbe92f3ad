"""Reads the `data` of an HTTP answer, or makes the exception for it."""

from __future__ import annotations

from typing import Any

import httpx

from ._errors import APIConnectionError, APIError, APITimeoutError, class_for


def data(answer: httpx.Response) -> Any:
    """Returns the `data` of the envelope. Raises APIError for an error status and for
    an answer without an envelope."""
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
    # Retry-After may also be a date. Hutch sends seconds only.
    return float(header) if header is not None and header.isdecimal() else None
