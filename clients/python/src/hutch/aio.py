"""The client for asyncio. Made by generate.py from sync.py: change that one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TypeVar

import httpx

from . import answers, calls, scripts
from .calls import Call
from .errors import SandboxError
from .models import Credentials, RunResult
from .settings import Proxy, Settings

T = TypeVar("T")


class ExecutionSession:
    """A session of a sandbox: its directory, variables and functions stay from
    command to command. Commands of one session run one after another.

    `run` makes the session where it does not exist yet.
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
        """Runs a command. `cwd` and `env` hold for it alone; `timeout` is in seconds,
        and kills it; with `check` a failure is a CommandError."""
        result = await self.sandbox.call(calls.run(command, self.id, cwd, env, timeout))
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
        """Runs a program, given as its text: `python`, `bash`, `node`, or any other
        interpreter that the sandbox has."""
        script = scripts.path()
        await self.write_file(script, source)
        try:
            command = scripts.command(language, script, arguments)
            return await self.run(command, cwd=cwd, env=env, timeout=timeout, check=check)
        finally:
            await self.delete_file(script)

    async def set_env(self, env: Mapping[str, str]) -> None:
        """Sets exported variables for the commands to come."""
        await self.sandbox.call(calls.set_env(self.id, env))

    async def write_file(self, path: str, content: str | bytes) -> None:
        """Writes a file, all at once; missing directories are made. A relative path
        begins at the session's directory."""
        await self.sandbox.call(calls.write_file(self.id, path, content))

    async def read_file(self, path: str) -> str:
        """The text of a file in UTF-8."""
        return (await self.read_bytes(path)).decode()

    async def read_bytes(self, path: str) -> bytes:
        """The bytes of a file."""
        return await self.sandbox.call(calls.read_file(self.id, path))

    async def make_directory(self, path: str, *, recursive: bool = True) -> None:
        """Makes a directory; with `recursive` its parents, too, and one that is there
        is no error."""
        await self.sandbox.call(calls.make_directory(self.id, path, recursive))

    async def move(self, source: str, destination: str) -> None:
        """Moves or renames a file or directory."""
        await self.sandbox.call(calls.move(self.id, source, destination))

    async def delete_file(self, path: str) -> None:
        """Deletes a file."""
        await self.sandbox.call(calls.delete_file(self.id, path))

    async def exists(self, path: str) -> bool:
        """Whether there is something at the path."""
        return await self.sandbox.call(calls.exists(self.id, path))

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
        unmounted. Without `credentials` the service's own are used."""
        await self.sandbox.call(
            calls.mount_bucket(
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
        """Ends a mount; everything written to it is in the bucket then."""
        await self.sandbox.call(calls.unmount_bucket(self.id, mount_path))

    async def delete(self) -> None:
        """Ends the session with its running command; `default` begins anew."""
        await self.sandbox.call(calls.delete_session(self.id))

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
    """One sandbox. It is made by its first use, where it does not exist; as a context
    it is destroyed at the end.

    What takes no session uses the session `default`; `run` uses none, so that
    commands do not wait for each other.
    """

    def __init__(self, manager: SandboxManager, sandbox_id: str) -> None:
        self.manager = manager
        self.id = sandbox_id
        #: The session that is always there.
        self.default = ExecutionSession(self, "default")

    async def call(self, call: Call[T]) -> T:
        """Sends a request about this sandbox."""
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
        """Runs a command of no session, as `ExecutionSession.run` does."""
        result = await self.call(calls.run(command, None, cwd, env, timeout))
        return result.check() if check else result

    def session(self, session_id: str) -> ExecutionSession:
        """A session of that id, which may exist or not; nothing is sent."""
        return ExecutionSession(self, session_id)

    async def create_session(
        self,
        session_id: str | None = None,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> ExecutionSession:
        """Makes a session; SandboxError with status 409 where it exists."""
        made = ExecutionSession(self, session_id or uuid.uuid4().hex)
        await self.call(calls.create_session(made.id, cwd, env))
        return made

    async def list_sessions(self) -> list[str]:
        """The ids of all sessions, `default` among them."""
        return await self.call(calls.list_sessions())

    async def destroy(self) -> None:
        """Ends the sandbox and everything in it; that it does not exist is no error."""
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
    """Makes and ends sandboxes. As an async context it closes its connections at the end;
    sandboxes stay. For one event loop.

    What is not given comes from HUTCH_BASE_URL, HUTCH_API_KEY and HUTCH_PROXY
    (`auto`, `off` or a URL); `timeout` is in seconds.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        proxy: Proxy | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.settings = Settings.read(base_url, api_key, proxy, timeout)
        proxy_url = self.settings.proxy
        self._http = httpx.AsyncClient(
            base_url=self.settings.base_url,
            # The one way to name a proxy that all versions of httpx have.
            transport=httpx.AsyncHTTPTransport(proxy=httpx.Proxy(proxy_url) if proxy_url else None),
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
        """A sandbox that answers commands: made where it does not exist. It goes to
        sleep after `sleep_after` (`30s`, `10m`, `1h`) without use, and wakes by itself."""
        sandbox = Sandbox(self, sandbox_id or f"sb-{uuid.uuid4().hex}")
        self._made.add(sandbox.id)
        await sandbox.call(calls.create(sleep_after, keep_alive, normalize_id))
        return sandbox

    def get(self, sandbox_id: str) -> Sandbox:
        """The sandbox of that id, which may exist or not; nothing is sent."""
        return Sandbox(self, sandbox_id)

    async def destroy(self, sandbox_id: str) -> None:
        """Ends the sandbox of that id; that it does not exist is no error."""
        await self.send(sandbox_id, calls.destroy())
        self._made.discard(sandbox_id)

    async def destroy_all(self) -> None:
        """Ends every sandbox that this manager made. All are tried; the first failure
        is raised in the end."""
        made = sorted(self._made)
        failures: list[SandboxError] = []
        for sandbox_id in made:
            try:
                await self.destroy(sandbox_id)
            except SandboxError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def send(self, sandbox_id: str, call: Call[T]) -> T:
        """Sends a request about a sandbox, once."""
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
            raise answers.lost(error, call.path) from error
        return call.read(answers.data(answer))

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
