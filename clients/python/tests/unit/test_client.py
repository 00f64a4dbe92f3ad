"""Settings, proxies and the generated file. Needs no service."""

import os
import socket
import subprocess
import sys
import unittest
from pathlib import Path
from unittest.mock import patch

import httpx

from hutch import Credentials, SandboxManager, aio
from hutch._settings import ENVIRONMENT, Settings, choose_proxy


class Client(unittest.TestCase):
    def test_the_environment_supplies_the_settings(self) -> None:
        named = {"HUTCH_BASE_URL": "https://hutch.example.com/", "HUTCH_API_KEY": "k"}
        with patch.dict(os.environ, {**named, "HUTCH_PROXY": "off"}, clear=True):
            settings = Settings.read(None, None, ENVIRONMENT, 1)
        self.assertEqual(settings.base_url, "https://hutch.example.com")
        self.assertEqual(settings.headers("a")["authorization"], "Bearer k")
        self.assertNotIn("'k'", repr(settings))
        self.assertIsNone(settings.proxy)
        with patch.dict(os.environ, {}, clear=True):
            settings = Settings.read(None, None, ENVIRONMENT, 1)
        self.assertEqual(settings.base_url, "http://127.0.0.1:8787")
        self.assertEqual(settings.headers("a"), {"x-sandbox-id": "a"})
        with self.assertRaises(ValueError):
            SandboxManager("hutch.example.com")

    def test_the_argument_and_the_variable_choose_the_proxy(self) -> None:
        url = "http://p:1"
        cases = [("", ENVIRONMENT), ("auto", ENVIRONMENT), ("off", None), (url, url)]
        for variable, expected in cases:
            with patch.dict(os.environ, {"HUTCH_PROXY": variable}, clear=True):
                self.assertEqual(choose_proxy("a.example.com", ENVIRONMENT), expected)
                self.assertIsNone(choose_proxy("a.example.com", None))
                self.assertEqual(choose_proxy("a.example.com", "http://q:2"), "http://q:2")

    def test_the_default_probes_no_port(self) -> None:
        with (
            patch.dict(os.environ, {}, clear=True),
            patch("socket.create_connection", side_effect=AssertionError("a port was probed")),
        ):
            SandboxManager("https://a.example.com").close()

    def test_the_proxy_reaches_httpx(self) -> None:
        for module, client, kind in (
            ("hutch._sync", SandboxManager, "HTTPTransport"),
            ("hutch.aio", aio.SandboxManager, "AsyncHTTPTransport"),
        ):
            with (
                patch.dict(os.environ, {}, clear=True),
                patch(f"{module}.httpx.{kind}", wraps=getattr(httpx, kind)) as transport,
            ):
                client("https://a.example.com", proxy="http://p:1")
                self.assertEqual(transport.call_args_list[0].kwargs["proxy"].url, "http://p:1")
                transport.reset_mock()
                client("https://a.example.com", proxy=None)
                self.assertIsNone(transport.call_args_list[0].kwargs["proxy"])

    def test_clash_is_found_by_its_port_on_request(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as clash:
            port = clash.getsockname()[1]
            with patch("hutch._settings.CLASH_PORTS", (1, port)):
                found = choose_proxy("a.example.com", "clash")
                for host in ("localhost", "127.0.0.1", "10.1.2.3", "hutch.ns.svc"):
                    self.assertIsNone(choose_proxy(host, "clash"), host)
        self.assertEqual(found, f"http://127.0.0.1:{port}")
        with patch("hutch._settings.CLASH_PORTS", (1,)), self.assertRaises(ValueError):
            choose_proxy("a.example.com", "clash")

    def test_repr_hides_secret_keys(self) -> None:
        self.assertNotIn("hush", repr(Credentials("id", "hush")))

    def test_the_generated_client_is_up_to_date(self) -> None:
        generate = Path(__file__).parents[2] / "generate.py"
        subprocess.run([sys.executable, str(generate), "--check"], check=True)


if __name__ == "__main__":
    unittest.main()
