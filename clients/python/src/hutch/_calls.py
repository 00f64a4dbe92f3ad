"""The requests of the REST contract as values. Nothing here sends a request, so the
clients for threads and for asyncio share this module."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ._models import Credentials, RunResult

T = TypeVar("T")

#: Seconds for the service and the network, added to the command's timeout.
GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request for one sandbox; `read` converts the `data` of its answer."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] | None = None
    #: Seconds until the client gives up. None: the client's default.
    timeout: float | None = None


def _nothing(_: Any) -> None:
    return None


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def create(
    sleep_after: str | None, keep_alive: bool | None, normalize_id: bool | None
) -> Call[None]:
    options = _given(sleepAfter=sleep_after, keepAlive=keep_alive, normalizeId=normalize_id)
    return Call("POST", "/lifecycle", _nothing, {"options": options or None})


def destroy() -> Call[None]:
    return Call("DELETE", "/lifecycle", _nothing)


def run(
    command: str,
    session: str | None,
    cwd: str | None,
    env: Mapping[str, str] | None,
    timeout: float | None,
) -> Call[RunResult]:
    body = _given(
        command=command,
        sessionId=session,
        cwd=cwd,
        env=dict(env) if env is not None else None,
        timeout=round(timeout * 1000) if timeout is not None else None,
    )
    path = "/exec" if session is None else "/session/exec"
    client_timeout = timeout + GRACE_SECONDS if timeout is not None else None
    return Call("POST", path, RunResult.read, body, timeout=client_timeout)


def create_session(session: str, cwd: str | None, env: Mapping[str, str] | None) -> Call[None]:
    variables = dict(env) if env is not None else None
    return Call("POST", "/session", _nothing, _given(id=session, cwd=cwd, env=variables))


def delete_session(session: str) -> Call[None]:
    return Call("DELETE", "/session", _nothing, query={"session_id": session})


def list_sessions() -> Call[list[str]]:
    return Call("GET", "/api/session/list", list)


def set_env(session: str, env: Mapping[str, str]) -> Call[None]:
    return Call("POST", "/session/env", _nothing, {"envVars": dict(env), "sessionId": session})


def write_file(session: str, path: str, content: str | bytes) -> Call[None]:
    body = {"path": path, "sessionId": session}
    if isinstance(content, bytes):
        body |= {"content": base64.b64encode(content).decode(), "encoding": "base64"}
    else:
        body |= {"content": content, "encoding": "utf-8"}
    return Call("POST", "/files/write", _nothing, body)


def read_file(session: str, path: str) -> Call[bytes]:
    body = {"path": path, "sessionId": session, "encoding": "base64"}
    return Call("POST", "/files/read", lambda data: base64.b64decode(data["content"]), body)


def make_directory(session: str, path: str, recursive: bool) -> Call[None]:
    body = {"path": path, "sessionId": session, "recursive": recursive}
    return Call("POST", "/files/mkdir", _nothing, body)


def move(session: str, source: str, destination: str) -> Call[None]:
    body = {"sourcePath": source, "destPath": destination, "sessionId": session}
    return Call("POST", "/files/move", _nothing, body)


def delete_file(session: str, path: str) -> Call[None]:
    return Call("POST", "/files/delete", _nothing, {"path": path, "sessionId": session})


def exists(session: str, path: str) -> Call[bool]:
    body = {"path": path, "sessionId": session}
    return Call("POST", "/files/exists", lambda data: bool(data["exists"]), body)


def mount_bucket(
    session: str,
    bucket: str,
    mount_path: str,
    endpoint: str,
    provider: str | None,
    credentials: Credentials | None,
    prefix: str | None,
    read_only: bool,
    s3fs_options: Sequence[str],
) -> Call[None]:
    keys = None
    if credentials is not None:
        keys = {
            "accessKeyId": credentials.access_key_id,
            "secretAccessKey": credentials.secret_access_key,
        }
    options = _given(
        endpoint=endpoint,
        provider=provider,
        credentials=keys,
        prefix=prefix,
        readOnly=read_only,
        s3fsOptions=list(s3fs_options) or None,
    )
    body = {
        "bucket": bucket,
        "mountPath": mount_path,
        "sessionId": session,
        "options": options,
    }
    return Call("POST", "/mount-bucket", _nothing, body)


def unmount_bucket(session: str, mount_path: str) -> Call[None]:
    body = {"mountPath": mount_path, "sessionId": session}
    return Call("POST", "/unmount-bucket", _nothing, body)
