"""The client for threads. Generated from aio.py by generate.py: do not edit."""
# Digest: 46635a3b0866527deb8f10b492eb63857557d41720bdf3f33155d000600afc1c

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

    def run(
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
        result = self.sandbox.call(_calls.run(command, self.id, cwd, env, timeout))
        return result.check() if check else result

    def run_script(
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
        self.write_file(script, source)
        try:
            command = _scripts.command(language, script, arguments)
            return self.run(command, cwd=cwd, env=env, timeout=timeout, check=check)
        finally:
            self.delete_file(script)

    def set_env(self, env: Mapping[str, str]) -> None:
        """Sets exported variables for later commands."""
        self.sandbox.call(_calls.set_env(self.id, env))

    def write_file(self, path: str, content: str | bytes) -> None:
        """Writes a file atomically and creates missing directories. A relative path
        starts at the session's working directory."""
        self.sandbox.call(_calls.write_file(self.id, path, content))

    def read_file(self, path: str) -> str:
        """Returns the text of a UTF-8 file."""
        content = self.read_bytes(path)
        return content.decode()

    def read_bytes(self, path: str) -> bytes:
        """Returns the bytes of a file."""
        return self.sandbox.call(_calls.read_file(self.id, path))

    def make_directory(self, path: str, *, recursive: bool = True) -> None:
        """Creates a directory. With `recursive`, it also creates the parents, and an
        existing directory is no error."""
        self.sandbox.call(_calls.make_directory(self.id, path, recursive))

    def move(self, source: str, destination: str) -> None:
        """Moves or renames a file or directory."""
        self.sandbox.call(_calls.move(self.id, source, destination))

    def delete_file(self, path: str) -> None:
        """Deletes a file."""
        self.sandbox.call(_calls.delete_file(self.id, path))

    def exists(self, path: str) -> bool:
        """True if the path exists."""
        return self.sandbox.call(_calls.exists(self.id, path))

    def mount_bucket(
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
        self.sandbox.call(
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

    def unmount_bucket(self, mount_path: str) -> None:
        """Unmounts a bucket. All written data is in the bucket when this returns."""
        self.sandbox.call(_calls.unmount_bucket(self.id, mount_path))

    def delete(self) -> None:
        """Deletes the session and kills its running command. `default` is reset."""
        self.sandbox.call(_calls.delete_session(self.id))

    def __enter__(self) -> ExecutionSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.delete()

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

    def call(self, call: Call[T]) -> T:
        """Sends a request for this sandbox."""
        return self.manager.send(self.id, call)

    def run(
        self,
        command: str,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
    ) -> RunResult:
        """Runs a command outside any session. Arguments: see `ExecutionSession.run`."""
        result = self.call(_calls.run(command, None, cwd, env, timeout))
        return result.check() if check else result

    def session(self, session_id: str) -> ExecutionSession:
        """Returns a handle of a session. Sends nothing."""
        return ExecutionSession(self, session_id)

    def create_session(
        self,
        session_id: str | None = None,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> ExecutionSession:
        """Creates a session. Raises ConflictError if it exists."""
        made = ExecutionSession(self, session_id or uuid.uuid4().hex)
        self.call(_calls.create_session(made.id, cwd, env))
        return made

    def list_sessions(self) -> list[str]:
        """Returns the ids of all sessions, including `default`."""
        return self.call(_calls.list_sessions())

    def destroy(self) -> None:
        """Destroys the sandbox. A sandbox that does not exist is no error."""
        self.manager.destroy(self.id)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.destroy()

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.settings = Settings.read(base_url, api_key, proxy, timeout)
        chosen = self.settings.proxy
        if transport is None and not isinstance(chosen, EnvironmentProxy):
            # All versions of httpx accept a proxy here. A transport of its own also
            # makes httpx ignore the proxy variables.
            proxy_or_none = httpx.Proxy(chosen) if chosen else None
            transport = httpx.HTTPTransport(proxy=proxy_or_none)
        self._http = httpx.Client(
            base_url=self.settings.base_url,
            transport=transport,
            timeout=timeout,
        )
        self._made: set[str] = set()

    def create(
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
        sandbox.call(_calls.create(sleep_after, keep_alive, normalize_id))
        return sandbox

    def get(self, sandbox_id: str) -> Sandbox:
        """Returns a handle of a sandbox. Sends nothing."""
        return Sandbox(self, sandbox_id)

    def destroy(self, sandbox_id: str) -> None:
        """Destroys a sandbox. A sandbox that does not exist is no error."""
        self.send(sandbox_id, _calls.destroy())
        self._made.discard(sandbox_id)

    def destroy_all(self) -> None:
        """Destroys all sandboxes that this manager created. It tries all of them, then
        raises the first failure."""
        # The copy is atomic: other threads may create sandboxes meanwhile.
        made = sorted(self._made.copy())
        failures: list[HutchError] = []
        for sandbox_id in made:
            try:
                self.destroy(sandbox_id)
            except HutchError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def send(self, sandbox_id: str, call: Call[T]) -> T:
        """Sends a request for a sandbox. It is never sent twice."""
        started = time.monotonic()
        try:
            answer = self._http.request(
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

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> SandboxManager:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
