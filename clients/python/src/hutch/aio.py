"""The client for asyncio."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TypeVar

import httpx

from . import _answers, _calls, _scripts
from ._calls import Call
from ._errors import HutchError
from ._models import Credentials, RunResult
from ._settings import ENVIRONMENT, EnvironmentProxy, Proxy, Settings

T = TypeVar("T")

_log = logging.getLogger("hutch")


class ExecutionSession:
    """A session of a sandbox. It keeps its working directory, variables and functions
    between commands. Commands of one session run one after another.

    `run` creates the session if it does not exist.
    """

    def __init__(self, sandbox: Sandbox, session_id: str) -> None:
        self.sandbox = sandbox
        self.id = session_id

    async def run(
        self,
        command: str,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
    ) -> RunResult:
        """Runs a command. `cwd` and `env` apply to this command only. The command is
        killed after `timeout` seconds. With `check`, a failure raises CommandError."""
        result = await self.sandbox.call(_calls.run(command, self.id, cwd, env, timeout))
        return result.check() if check else result

    async def run_script(
        self,
        source: str,
        language: str = "python",
        arguments: Sequence[str] = (),
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
    ) -> RunResult:
        """Runs a program from its source text. `language` is `python`, `bash`, `node`,
        or the name of another interpreter in the sandbox."""
        script = _scripts.path()
        await self.write_file(script, source)
        try:
            command = _scripts.command(language, script, arguments)
            return await self.run(command, cwd=cwd, env=env, timeout=timeout, check=check)
        finally:
            await self.delete_file(script)

    async def set_env(self, env: Mapping[str, str]) -> None:
        """Sets exported variables for later commands."""
        await self.sandbox.call(_calls.set_env(self.id, env))

    async def write_file(self, path: str, content: str | bytes) -> None:
        """Writes a file atomically and creates missing directories. A relative path
        starts at the session's working directory."""
        await self.sandbox.call(_calls.write_file(self.id, path, content))

    async def read_file(self, path: str) -> str:
        """Returns the text of a UTF-8 file."""
        content = await self.read_bytes(path)
        return content.decode()

    async def read_bytes(self, path: str) -> bytes:
        """Returns the bytes of a file."""
        return await self.sandbox.call(_calls.read_file(self.id, path))

    async def make_directory(self, path: str, *, recursive: bool = True) -> None:
        """Creates a directory. With `recursive`, it also creates the parents, and an
        existing directory is no error."""
        await self.sandbox.call(_calls.make_directory(self.id, path, recursive))

    async def move(self, source: str, destination: str) -> None:
        """Moves or renames a file or directory."""
        await self.sandbox.call(_calls.move(self.id, source, destination))

    async def delete_file(self, path: str) -> None:
        """Deletes a file."""
        await self.sandbox.call(_calls.delete_file(self.id, path))

    async def exists(self, path: str) -> bool:
        """True if the path exists."""
        return await self.sandbox.call(_calls.exists(self.id, path))

    async def mount_bucket(
        self,
        bucket: str,
        mount_path: str,
        *,
        endpoint: str,
        provider: str | None = None,
        credentials: Credentials | None = None,
        prefix: str | None = None,
        read_only: bool = False,
        s3fs_options: Sequence[str] = (),
    ) -> None:
        """Mounts an S3 bucket into the sandbox, for all its sessions, until it is
        unmounted. Without `credentials`, the service uses its own keys."""
        await self.sandbox.call(
            _calls.mount_bucket(
                self.id,
                bucket,
                mount_path,
                endpoint,
                provider,
                credentials,
                prefix,
                read_only,
                s3fs_options,
            )
        )

    async def unmount_bucket(self, mount_path: str) -> None:
        """Unmounts a bucket. All written data is in the bucket when this returns."""
        await self.sandbox.call(_calls.unmount_bucket(self.id, mount_path))

    async def delete(self) -> None:
        """Deletes the session and kills its running command. `default` is reset."""
        await self.sandbox.call(_calls.delete_session(self.id))

    async def __aenter__(self) -> ExecutionSession:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.delete()

    def __repr__(self) -> str:
        return f"ExecutionSession({self.sandbox.id!r}, {self.id!r})"


class Sandbox:
    """One sandbox. Its first use creates it. As a context manager, it is destroyed at
    the end.

    `run` uses no session, so commands run concurrently.
    """

    def __init__(self, manager: SandboxManager, sandbox_id: str) -> None:
        self.manager = manager
        self.id = sandbox_id
        #: The session that always exists.
        self.default = ExecutionSession(self, "default")

    async def call(self, call: Call[T]) -> T:
        """Sends a request for this sandbox."""
        return await self.manager.send(self.id, call)

    async def run(
        self,
        command: str,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
    ) -> RunResult:
        """Runs a command outside any session. Arguments: see `ExecutionSession.run`."""
        result = await self.call(_calls.run(command, None, cwd, env, timeout))
        return result.check() if check else result

    def session(self, session_id: str) -> ExecutionSession:
        """Returns a handle of a session. Sends nothing."""
        return ExecutionSession(self, session_id)

    async def create_session(
        self,
        session_id: str | None = None,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> ExecutionSession:
        """Creates a session. Raises ConflictError if it exists."""
        made = ExecutionSession(self, session_id or uuid.uuid4().hex)
        await self.call(_calls.create_session(made.id, cwd, env))
        return made

    async def list_sessions(self) -> list[str]:
        """Returns the ids of all sessions, including `default`."""
        return await self.call(_calls.list_sessions())

    async def destroy(self) -> None:
        """Destroys the sandbox. A sandbox that does not exist is no error."""
        await self.manager.destroy(self.id)

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.destroy()

    def __repr__(self) -> str:
        return f"Sandbox({self.id!r})"


class SandboxManager:
    """Creates and destroys sandboxes. As a context manager, it closes its connections at
    the end; sandboxes stay.

    `hutch.SandboxManager` may be shared between threads. `hutch.aio.SandboxManager`
    belongs to one event loop.

    HUTCH_BASE_URL, HUTCH_API_KEY and HUTCH_PROXY supply missing arguments. `proxy` is
    a URL, `"clash"` for a Clash on a local port, or None for no proxy; by default httpx
    reads HTTPS_PROXY and similar variables. `timeout` is in seconds. `transport`
    replaces the HTTP transport; then `proxy` has no effect.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        proxy: Proxy = ENVIRONMENT,
        timeout: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.settings = Settings.read(base_url, api_key, proxy, timeout)
        chosen = self.settings.proxy
        if transport is None and not isinstance(chosen, EnvironmentProxy):
            # All versions of httpx accept a proxy here. A transport of its own also
            # makes httpx ignore the proxy variables.
            proxy_or_none = httpx.Proxy(chosen) if chosen else None
            transport = httpx.AsyncHTTPTransport(proxy=proxy_or_none)
        self._http = httpx.AsyncClient(
            base_url=self.settings.base_url,
            transport=transport,
            timeout=timeout,
        )
        self._made: set[str] = set()

    async def create(
        self,
        sandbox_id: str | None = None,
        *,
        sleep_after: str | None = None,
        keep_alive: bool | None = None,
        normalize_id: bool | None = None,
    ) -> Sandbox:
        """Creates a sandbox if it does not exist, and waits until it runs commands. It
        sleeps after `sleep_after` (`30s`, `10m`, `1h`) without use; a request wakes it."""
        sandbox = Sandbox(self, sandbox_id or f"sb-{uuid.uuid4().hex}")
        self._made.add(sandbox.id)
        await sandbox.call(_calls.create(sleep_after, keep_alive, normalize_id))
        return sandbox

    def get(self, sandbox_id: str) -> Sandbox:
        """Returns a handle of a sandbox. Sends nothing."""
        return Sandbox(self, sandbox_id)

    async def destroy(self, sandbox_id: str) -> None:
        """Destroys a sandbox. A sandbox that does not exist is no error."""
        await self.send(sandbox_id, _calls.destroy())
        self._made.discard(sandbox_id)

    async def destroy_all(self) -> None:
        """Destroys all sandboxes that this manager created. It tries all of them, then
        raises the first failure."""
        # The copy is atomic: other threads may create sandboxes meanwhile.
        made = sorted(self._made.copy())
        failures: list[HutchError] = []
        for sandbox_id in made:
            try:
                await self.destroy(sandbox_id)
            except HutchError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def send(self, sandbox_id: str, call: Call[T]) -> T:
        """Sends a request for a sandbox. It is never sent twice."""
        started = time.monotonic()
        try:
            answer = await self._http.request(
                call.method,
                call.path,
                json=call.body,
                params=call.query,
                headers=self.settings.headers(sandbox_id),
                timeout=call.timeout or self.settings.timeout,
            )
        except httpx.HTTPError as error:
            _log.debug("%s %s: %s", call.method, call.path, type(error).__name__)
            raise _answers.lost(error, call.path) from error
        seconds = time.monotonic() - started
        _log.debug("%s %s: %d in %.3f s", call.method, call.path, answer.status_code, seconds)
        return _answers.read(answer, call.read)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> SandboxManager:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
