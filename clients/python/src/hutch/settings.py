"""Where the service is, and how it is reached."""

from __future__ import annotations

import ipaddress
import os
import socket
import urllib.request
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

#: `auto`: the usual variables, else a local Clash; `off`: none; or a proxy's URL.
Proxy: TypeAlias = Literal["auto", "off"] | str

#: Ports that Clash and its descendants listen on by default.
CLASH_PORTS = (7890, 7891, 7897)


@dataclass(frozen=True)
class Settings:
    """What a client is made with; what is not given comes from the environment."""

    #: HUTCH_BASE_URL, else http://127.0.0.1:8787.
    base_url: str
    #: HUTCH_API_KEY; none where the service asks for none.
    api_key: str | None = field(repr=False)
    #: URL of the proxy that requests go through.
    proxy: str | None
    #: Seconds that a request may take, unless its command has a time of its own.
    timeout: float

    @classmethod
    def read(
        cls,
        base_url: str | None,
        api_key: str | None,
        proxy: Proxy | None,
        timeout: float,
    ) -> Settings:
        url = base_url or os.environ.get("HUTCH_BASE_URL") or "http://127.0.0.1:8787"
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the base URL {url!r} is not an HTTP(S) URL")
        wanted = proxy or os.environ.get("HUTCH_PROXY") or "auto"
        return cls(
            base_url=url.rstrip("/"),
            api_key=api_key or os.environ.get("HUTCH_API_KEY") or None,
            proxy=find_proxy(parts.scheme, parts.hostname, wanted),
            timeout=timeout,
        )

    def headers(self, sandbox: str) -> dict[str, str]:
        """The headers of a request about that sandbox."""
        headers = {"x-sandbox-id": sandbox}
        if self.api_key is not None:
            headers["authorization"] = f"Bearer {self.api_key}"
        return headers


def find_proxy(scheme: str, host: str, wanted: Proxy) -> str | None:
    """The proxy for requests to that host. Hosts of one's own network, and those
    that NO_PROXY names, are reached without one."""
    if wanted == "off":
        return None
    if wanted != "auto":
        return wanted
    if _is_near(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies_environment()
    named = proxies.get(scheme) or proxies.get("all")
    if named:
        return named
    return next((f"http://127.0.0.1:{port}" for port in CLASH_PORTS if _listens(port)), None)


def _is_near(host: str) -> bool:
    if host == "localhost" or host.endswith((".local", ".svc", ".cluster.local")):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.1):
            return True
    except OSError:
        return False
