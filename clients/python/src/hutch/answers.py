"""From an HTTP answer to its `data`, or to an error."""

from __future__ import annotations

from typing import Any

import httpx

from .errors import SandboxError


def data(answer: httpx.Response) -> Any:
    """The `data` of the envelope; SandboxError where it tells of a failure, or is none."""
    try:
        body = answer.json()
    except ValueError:
        body = answer.text
    if not isinstance(body, dict) or "data" not in body:
        text = f"{answer.status_code} from {answer.url}, which is not an answer of Hutch"
        raise SandboxError(text, answer.status_code, body)
    if answer.status_code >= 400:
        inner = body["data"]
        detail = inner.get("error") if isinstance(inner, dict) else None
        text = detail or body.get("message") or f"status {answer.status_code}"
        raise SandboxError(str(text), answer.status_code, body)
    return body["data"]


def lost(error: httpx.HTTPError, path: str) -> SandboxError:
    """What a request without an answer comes to."""
    return SandboxError(f"no answer to {path}: {error or type(error).__name__}")
