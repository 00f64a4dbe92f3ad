"""Writes src/hutch/aio.py, the client for asyncio, from src/hutch/sync.py.

    python generate.py           writes it
    python generate.py --check   fails where it is not up to date
"""

import re
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "src/hutch/sync.py"
TARGET = SOURCE.with_name("aio.py")

#: Methods that wait for an answer.
WAITING = (
    "run|run_script|set_env|write_file|read_file|read_bytes|make_directory|move|delete_file|"
    "exists|mount_bucket|unmount_bucket|delete|call|create_session|list_sessions|destroy|"
    "destroy_all|send|close"
)
REPLACED = (
    (
        r'"""The client for programs with threads, or without any."""',
        '"""The client for asyncio. Made by generate.py from sync.py: change that one."""',
    ),
    # `create` is a method of the manager, and also the request that it sends.
    (rf"    def ({WAITING}|create|__enter__|__exit__)\(", r"    async def \1("),
    (r"__(enter|exit)__", r"__a\1__"),
    (rf"(?<![\w.])((?:self|sandbox)\.(?:sandbox\.|manager\.)?(?:{WAITING})\()", r"await \1"),
    (
        r"return await self\.read_bytes\(path\)\.decode",
        r"return (await self.read_bytes(path)).decode",
    ),
    (r"= self\._http\.request\(", r"= await self._http.request("),
    (r"self\._http\.close\(", r"await self._http.aclose("),
    (r"httpx\.Client", r"httpx.AsyncClient"),
    (r"httpx\.HTTPTransport", r"httpx.AsyncHTTPTransport"),
    (r"As a context it closes", r"As an async context it closes"),
    (r" Can be used from several threads\.", r" For one event loop."),
    (r"import threading\n", r""),
    (r"        self\._lock = threading\.Lock\(\)\n", r""),
    (r"        with self\._lock:\n    (        .*\n)", r"\1"),
)


def generated() -> str:
    text = SOURCE.read_text()
    for pattern, replacement in REPLACED:
        text, count = re.subn(pattern, replacement, text)
        if not count:
            sys.exit(f"{pattern} is not in {SOURCE.name} any more")
    return text


if __name__ == "__main__":
    if "--check" not in sys.argv:
        TARGET.write_text(generated())
    elif TARGET.read_text() != generated():
        sys.exit(f"{TARGET.name} is not up to date: run python generate.py")
