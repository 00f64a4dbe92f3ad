"""Tests of the client with the service at HUTCH_BASE_URL."""

import asyncio
import unittest
import uuid

from hutch import (
    APIConnectionError,
    BadRequestError,
    CommandError,
    ConflictError,
    NotFoundError,
    Sandbox,
    SandboxManager,
    aio,
)


class Service(unittest.TestCase):
    manager: SandboxManager
    sandbox: Sandbox

    @classmethod
    def setUpClass(cls) -> None:
        cls.manager = SandboxManager()
        cls.sandbox = cls.manager.create(sleep_after="10m")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.manager.destroy_all()
        cls.manager.close()

    def test_a_result_has_exit_code_and_output(self) -> None:
        result = self.sandbox.run("echo out; echo err >&2; exit 3")
        self.assertEqual((result.exit_code, result.stdout, result.stderr), (3, "out", "err"))
        self.assertFalse(result.success)
        with self.assertRaises(CommandError) as raised:
            result.check()
        self.assertEqual(raised.exception.result, result)
        late = self.sandbox.run("sleep 30", timeout=0.2)
        self.assertTrue(late.timed_out and late.exit_code == 124)
        inside = self.sandbox.run("echo $A; pwd", env={"A": "b c"}, cwd="/tmp", check=True)
        self.assertEqual(inside.stdout, "b c\n/tmp")

    def test_a_session_remembers(self) -> None:
        with self.sandbox.create_session("memory", cwd="/tmp", env={"A": "1"}) as session:
            session.run("cd /usr; f() { echo f $A; }", check=True)
            session.set_env({"A": "2"})
            self.assertEqual(session.run("pwd; f").stdout, "/usr\nf 2")
            self.assertIn("memory", self.sandbox.list_sessions())
            with self.assertRaises(ConflictError) as raised:
                self.sandbox.create_session("memory")
            self.assertIn("already exists", str(raised.exception))
        self.assertNotIn("memory", self.sandbox.list_sessions())

    def test_files_are_text_or_bytes(self) -> None:
        session = self.sandbox.session(uuid.uuid4().hex)
        session.run("mkdir -p /workspace/files && cd /workspace/files", check=True)
        session.write_file("deep/text", "grüße\n")
        self.assertEqual(session.read_file("/workspace/files/deep/text"), "grüße\n")
        blob = bytes(range(256))
        session.write_file("blob", blob)
        self.assertEqual(session.read_bytes("blob"), blob)
        session.make_directory("a/b")
        session.move("blob", "a/b/blob")
        self.assertTrue(session.exists("a/b/blob") and not session.exists("blob"))
        session.delete_file("a/b/blob")
        with self.assertRaises(NotFoundError):
            session.read_file("a/b/blob")

    def test_a_script_runs_and_leaves_nothing(self) -> None:
        source = "import sys\nprint(sys.argv[1:])\nsys.exit(4)\n"
        result = self.sandbox.default.run_script(source, arguments=["a b", "$(c)"])
        self.assertEqual((result.exit_code, result.stdout), (4, "['a b', '$(c)']"))
        left = self.sandbox.run("ls /tmp/hutch-script-* 2>/dev/null | wc -l")
        self.assertEqual(left.stdout, "0")

    def test_an_error_has_status_and_code(self) -> None:
        with self.assertRaises(BadRequestError) as raised:
            self.sandbox.default.mount_bucket("b", "/mnt/x", endpoint="nonsense")
        error = raised.exception
        self.assertEqual((error.status, error.code), (400, 400))
        with self.assertRaises(NotFoundError):
            self.sandbox.default.unmount_bucket("/mnt/x")

    def test_an_unreachable_service_is_a_connection_error(self) -> None:
        with SandboxManager("http://127.0.0.1:9") as nowhere:
            with self.assertRaises(APIConnectionError):
                nowhere.get("x").run("true")

    def test_the_asyncio_client_works_the_same(self) -> None:
        asyncio.run(self.concurrently())

    async def concurrently(self) -> None:
        async with aio.SandboxManager() as manager, await manager.create() as sandbox:
            sessions = [sandbox.session(f"s{i}") for i in range(4)]
            runs = (session.run("sleep 0.2; echo $$ > pid; pwd") for session in sessions)
            results = await asyncio.gather(*runs)
            self.assertEqual({result.stdout for result in results}, {"/workspace"})
            await sandbox.default.write_file("x", b"\0")
            self.assertEqual(await sandbox.default.read_bytes("x"), b"\0")
            self.assertEqual((await sandbox.default.run_script("echo $0", "bash")).exit_code, 0)


if __name__ == "__main__":
    unittest.main()
