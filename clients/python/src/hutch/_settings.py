"""The address of the service, the API key and the proxy."""

from __future__ import annotations

import enum
import ipaddress
import os
import socket
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import urlsplit


class EnvironmentProxy(enum.Enum):
    """Type of the default of `proxy`: httpx reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY
    and NO_PROXY."""

    ENVIRONMENT = "environment"


ENVIRONMENT: Final = EnvironmentProxy.ENVIRONMENT

#: A proxy's URL, or "clash"; None for no proxy.
Proxy: TypeAlias = str | EnvironmentProxy | None

#: Ports that Clash and its descendants listen on by default.
CLASH_PORTS = (7890, 7891, 7897)


@dataclass(frozen=True)
class Settings:
    """Settings of a client. The environment supplies the missing ones."""

    #: HUTCH_BASE_URL, else http://127.0.0.1:8787.
    base_url: str
    #: HUTCH_API_KEY. None if the service needs no key.
    api_key: str | None = field(repr=False)
    #: URL of the proxy, None for no proxy, or ENVIRONMENT. It may contain a password.
    proxy: Proxy = field(repr=False)
    #: Seconds that a request may take, unless its command has its own timeout.
    timeout: float

    @classmethod
    def read(
        cls,
        base_url: str | None,
        api_key: str | None,
        proxy: Proxy,
        timeout: float,
    ) -> Settings:
        url = base_url or os.environ.get("HUTCH_BASE_URL") or "http://127.0.0.1:8787"
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the base URL {url!r} is not an HTTP(S) URL")
        return cls(
            base_url=url.rstrip("/"),
            api_key=api_key or os.environ.get("HUTCH_API_KEY") or None,
            proxy=choose_proxy(parts.hostname, proxy),
            timeout=timeout,
        )

    def headers(self, sandbox: str) -> dict[str, str]:
        """The headers of a request for that sandbox."""
        headers = {"x-sandbox-id": sandbox}
        if self.api_key is not None:
            headers["authorization"] = f"Bearer {self.api_key}"
        return headers


def choose_proxy(host: str, wanted: Proxy) -> Proxy:
    """The proxy's URL, None for no proxy, or ENVIRONMENT."""
    if wanted is ENVIRONMENT:
        wanted = _from_variable(os.environ.get("HUTCH_PROXY", ""))
    return _clash(host) if wanted == "clash" else wanted


def _from_variable(value: str) -> Proxy:
    if value in ("", "auto"):
        return ENVIRONMENT
    return None if value == "off" else value


def _clash(host: str) -> str | None:
    """The local Clash proxy. Hosts of a private network are reached without it."""
    if _is_private(host):
        return None
    for port in CLASH_PORTS:
        if _listens(port):
            return f"http://127.0.0.1:{port}"
    raise ValueError(f"no Clash proxy listens on the local ports {CLASH_PORTS}")


def _is_private(host: str) -> bool:
    if host == "localhost" or host.endswith((".local", ".svc")):
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
