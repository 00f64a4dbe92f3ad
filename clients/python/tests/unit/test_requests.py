"""Requests and errors of both clients, with a mock transport. Needs no service."""

import asyncio
import base64
import inspect
import json
import unittest
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import httpx

import hutch
from hutch import Credentials, SandboxManager, aio

RESULT = {"command": "c", "exitCode": 3, "stdout": "o", "stderr": "e", "duration": 1}
#: Accepted by every `read` of the calls.
DATA = {"result": RESULT, "content": base64.b64encode(b"x").decode(), "exists": True}
KEYS = Credentials("id", "hush")

Handler = Callable[[httpx.Request], httpx.Response]
#: Takes a manager of either client; its result may have to be awaited.
Use = Callable[[Any], Any]


def both(handler: Handler, use: Use) -> list[Any]:
    """Runs `use` with both clients; returns results, or the exceptions raised."""
    transport = httpx.MockTransport(handler)
    outcomes: list[Any] = []
    try:
        with SandboxManager("http://h", "key", transport=transport) as manager:
            outcomes.append(use(manager))
    except hutch.HutchError as error:
        outcomes.append(error)

    async def run() -> Any:
        async with aio.SandboxManager("http://h", "key", transport=transport) as manager:
            result = use(manager)
            return await result if inspect.isawaitable(result) else result

    try:
        outcomes.append(asyncio.run(run()))
    except hutch.HutchError as error:
        outcomes.append(error)
    return outcomes


def session(manager: Any) -> Any:
    return manager.get("a/B").session("s")


S = {"sessionId": "s"}
CALLS: list[tuple[Use, str, str, Any]] = [
    (lambda m: m.create("a/B"), "POST", "/lifecycle", {"options": None}),
    (
        lambda m: m.create("a/B", sleep_after="1m", keep_alive=False, normalize_id=True),
        "POST",
        "/lifecycle",
        {"options": {"sleepAfter": "1m", "keepAlive": False, "normalizeId": True}},
    ),
    (lambda m: m.destroy("a/B"), "DELETE", "/lifecycle", None),
    (
        lambda m: m.get("a/B").run("c", cwd="/", env={"A": "1"}, timeout=0.5),
        "POST",
        "/exec",
        {"command": "c", "cwd": "/", "env": {"A": "1"}, "timeout": 500},
    ),
    (lambda m: session(m).run("c"), "POST", "/session/exec", {"command": "c", **S}),
    (
        lambda m: m.get("a/B").create_session("s", cwd="/", env={}),
        "POST",
        "/session",
        {"id": "s", "cwd": "/", "env": {}},
    ),
    (lambda m: session(m).delete(), "DELETE", "/session?session_id=s", None),
    (lambda m: m.get("a/B").list_sessions(), "GET", "/api/session/list", None),
    (
        lambda m: session(m).set_env({"A": "1"}),
        "POST",
        "/session/env",
        {"envVars": {"A": "1"}, **S},
    ),
    (
        lambda m: session(m).write_file("p", "t"),
        "POST",
        "/files/write",
        {"path": "p", "content": "t", "encoding": "utf-8", **S},
    ),
    (
        lambda m: session(m).write_file("p", b"\0"),
        "POST",
        "/files/write",
        {"path": "p", "content": "AA==", "encoding": "base64", **S},
    ),
    (
        lambda m: session(m).read_file("p"),
        "POST",
        "/files/read",
        {"path": "p", "encoding": "base64", **S},
    ),
    (
        lambda m: session(m).make_directory("p", recursive=False),
        "POST",
        "/files/mkdir",
        {"path": "p", "recursive": False, **S},
    ),
    (
        lambda m: session(m).move("p", "q"),
        "POST",
        "/files/move",
        {"sourcePath": "p", "destPath": "q", **S},
    ),
    (lambda m: session(m).delete_file("p"), "POST", "/files/delete", {"path": "p", **S}),
    (lambda m: session(m).exists("p"), "POST", "/files/exists", {"path": "p", **S}),
    (
        lambda m: session(m).mount_bucket(
            "b",
            "/m",
            endpoint="http://s3",
            provider="s3",
            credentials=KEYS,
            prefix="/p",
            read_only=True,
            s3fs_options=["o"],
        ),
        "POST",
        "/mount-bucket",
        {
            "bucket": "b",
            "mountPath": "/m",
            **S,
            "options": {
                "endpoint": "http://s3",
                "provider": "s3",
                "credentials": {"accessKeyId": "id", "secretAccessKey": "hush"},
                "prefix": "/p",
                "readOnly": True,
                "s3fsOptions": ["o"],
            },
        },
    ),
    (
        lambda m: session(m).unmount_bucket("/m"),
        "POST",
        "/unmount-bucket",
        {"mountPath": "/m", **S},
    ),
]

ERRORS = {
    400: hutch.BadRequestError,
    401: hutch.AuthenticationError,
    403: hutch.PermissionDeniedError,
    404: hutch.NotFoundError,
    409: hutch.ConflictError,
    413: hutch.APIError,
    429: hutch.RateLimitError,
    500: hutch.ServerError,
    503: hutch.ServerError,
}


class Requests(unittest.TestCase):
    def test_every_call_sends_its_request(self) -> None:
        for use, method, target, body in CALLS:
            seen: list[httpx.Request] = []

            def answer(request: httpx.Request, seen: list[httpx.Request] = seen) -> httpx.Response:
                seen.append(request)
                return httpx.Response(200, json={"data": DATA, "message": "ok", "code": 200})

            for outcome in both(answer, use):
                self.assertNotIsInstance(outcome, Exception, target)
            self.assertEqual(len(seen), 2)
            for request in seen:
                self.assertEqual((request.method, request.url.raw_path.decode()), (method, target))
                self.assertEqual(request.headers["x-sandbox-id"], "a/B")
                self.assertEqual(request.headers["authorization"], "Bearer key")
                sent = json.loads(request.content) if request.content else None
                self.assertEqual(sent, body)

    def test_every_error_status_has_its_class_and_is_not_sent_again(self) -> None:
        for status, kind in ERRORS.items():
            seen: list[str] = []

            def refuse(
                _: httpx.Request, status: int = status, seen: list[str] = seen
            ) -> httpx.Response:
                seen.append("")
                envelope = {"data": {"error": "why"}, "message": "m", "code": status}
                return httpx.Response(status, json=envelope, headers={"retry-after": "7"})

            for error in both(refuse, lambda manager: manager.get("a").run("c")):
                self.assertIs(type(error), kind)
                self.assertEqual((error.status, error.code, error.message), (status, status, "why"))
                self.assertEqual((error.data, error.retry_after), ({"error": "why"}, 7))
            self.assertEqual(len(seen), 2)

    def test_an_answer_without_an_envelope_is_an_error(self) -> None:
        for status, kind in ((502, hutch.ServerError), (200, hutch.APIError)):

            def answer(_: httpx.Request, status: int = status) -> httpx.Response:
                return httpx.Response(status, text="Bad Gateway")

            for error in both(answer, lambda manager: manager.get("a").run("c")):
                self.assertIs(type(error), kind)
                self.assertEqual((error.code, error.body), (None, "Bad Gateway"))

    def test_data_without_a_field_is_an_error(self) -> None:
        cases: list[tuple[Any, Use]] = [
            ({}, lambda manager: manager.get("a").run("c")),
            ({"result": {"exitCode": 0}}, lambda manager: manager.get("a").run("c")),
            (None, lambda manager: manager.get("a").run("c")),
            ([], lambda manager: session(manager).read_file("p")),
            ({"content": "not base64!"}, lambda manager: session(manager).read_bytes("p")),
            (None, lambda manager: manager.get("a").list_sessions()),
        ]
        for data, use in cases:

            def answer(_: httpx.Request, data: Any = data) -> httpx.Response:
                return httpx.Response(200, json={"data": data, "message": "ok", "code": 200})

            for error in both(answer, use):
                self.assertIs(type(error), hutch.APIError)
                self.assertEqual((error.status, error.code), (200, 200))

    def test_retry_after_may_be_a_date(self) -> None:
        soon = datetime.now(timezone.utc) + timedelta(seconds=60)
        past = "Sun, 06 Nov 1994 08:49:37 GMT"
        cases = ((format_datetime(soon, usegmt=True), 60.0), (past, 0.0), ("soon", None))
        for header, expected in cases:

            def refuse(_: httpx.Request, header: str = header) -> httpx.Response:
                envelope = {"data": {"error": "why"}, "message": "m", "code": 503}
                return httpx.Response(503, json=envelope, headers={"retry-after": header})

            for error in both(refuse, lambda manager: manager.get("a").run("c")):
                if expected is None:
                    self.assertIsNone(error.retry_after)
                else:
                    self.assertAlmostEqual(error.retry_after, expected, delta=5)

    def test_a_lost_answer_is_a_connection_error_and_is_not_sent_again(self) -> None:
        cases = (
            (httpx.ConnectError, hutch.APIConnectionError),
            (httpx.RemoteProtocolError, hutch.APIConnectionError),
            (httpx.ReadTimeout, hutch.APITimeoutError),
        )
        for cause, kind in cases:
            seen: list[str] = []

            def lose(
                request: httpx.Request,
                cause: type[httpx.RequestError] = cause,
                seen: list[str] = seen,
            ) -> httpx.Response:
                seen.append("")
                raise cause("gone", request=request)

            for error in both(lose, lambda manager: manager.get("a").run("c")):
                self.assertIs(type(error), kind)
                self.assertNotIsInstance(error, hutch.APIError)
            self.assertEqual(len(seen), 2)

    def test_a_failed_command_is_no_service_error(self) -> None:
        def answer(_: httpx.Request) -> httpx.Response:
            return httpx.Response(200, json={"data": DATA})

        for error in both(answer, lambda manager: manager.get("a").run("c", check=True)):
            self.assertIs(type(error), hutch.CommandError)
            self.assertNotIsInstance(error, hutch.APIError)
            self.assertEqual(error.result.exit_code, 3)


if __name__ == "__main__":
    unittest.main()
