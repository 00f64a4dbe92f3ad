"""What the client decides by itself. Needs no service."""

import os
import socket
import subprocess
import sys
import unittest
from pathlib import Path
from unittest.mock import patch

import httpx

from hutch import Credentials, SandboxError, SandboxManager, answers
from hutch.settings import Settings, find_proxy


class Client(unittest.TestCase):
    def test_the_environment_says_where_the_service_is(self) -> None:
        named = {"HUTCH_BASE_URL": "https://hutch.example.com/", "HUTCH_API_KEY": "k"}
        with patch.dict(os.environ, {**named, "HUTCH_PROXY": "off"}, clear=True):
            settings = Settings.read(None, None, None, 1)
        self.assertEqual(settings.base_url, "https://hutch.example.com")
        self.assertEqual(settings.headers("a")["authorization"], "Bearer k")
        self.assertNotIn("'k'", repr(settings))
        with patch.dict(os.environ, {}, clear=True):
            settings = Settings.read(None, None, None, 1)
        self.assertEqual(settings.base_url, "http://127.0.0.1:8787")
        self.assertEqual(settings.headers("a"), {"x-sandbox-id": "a"})
        with self.assertRaises(ValueError):
            SandboxManager("hutch.example.com")

    def test_a_proxy_is_for_hosts_outside(self) -> None:
        named = {"https_proxy": "http://proxy:3128", "no_proxy": "inside.example.com"}
        with patch.dict(os.environ, named, clear=True):
            self.assertEqual(find_proxy("https", "a.example.com", "auto"), "http://proxy:3128")
            near = ["localhost", "127.0.0.1", "10.1.2.3", "hutch.ns.svc", "inside.example.com"]
            for host in near:
                self.assertIsNone(find_proxy("https", host, "auto"), host)
            self.assertIsNone(find_proxy("https", "a.example.com", "off"))
            self.assertEqual(find_proxy("https", "10.1.2.3", "http://p:1"), "http://p:1")

    def test_a_local_clash_is_found_by_its_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as clash:
            port = clash.getsockname()[1]
            with (
                patch.dict(os.environ, {}, clear=True),
                patch("hutch.settings.CLASH_PORTS", (1, port)),
            ):
                found = find_proxy("https", "a.example.com", "auto")
        self.assertEqual(found, f"http://127.0.0.1:{port}")

    def test_what_is_no_answer_of_the_service_says_so(self) -> None:
        request = httpx.Request("GET", "http://x/exec")
        answer = httpx.Response(502, text="Bad Gateway", request=request)
        with self.assertRaises(SandboxError) as raised:
            answers.data(answer)
        self.assertEqual((raised.exception.status, raised.exception.body), (502, "Bad Gateway"))

    def test_keys_are_not_shown(self) -> None:
        self.assertNotIn("hush", repr(Credentials("id", "hush")))

    def test_the_client_for_asyncio_is_up_to_date(self) -> None:
        generate = Path(__file__).parent.parent / "generate.py"
        subprocess.run([sys.executable, str(generate), "--check"], check=True)


if __name__ == "__main__":
    unittest.main()
