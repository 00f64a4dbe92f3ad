"""Writes src/hutch/_sync.py from src/hutch/aio.py. Needs the package `unasync`.

    python generate.py           writes the file
    python generate.py --check   fails if the file is not up to date

The check needs no package, so that it runs on a machine that has no unasync: the file
carries a digest of its source, of this program and of itself.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "src/hutch/aio.py"
TARGET = SOURCE.with_name("_sync.py")

#: unasync would turn `AsyncClient` into `SyncClient`.
NAMES = {
    "AsyncClient": "Client",
    "AsyncHTTPTransport": "HTTPTransport",
    "AsyncBaseTransport": "BaseTransport",
    "aclose": "close",
}
SOURCE_HEADER = '"""The client for asyncio."""\n'
HEADER = '"""The client for threads. Generated from aio.py by generate.py: do not edit."""\n'
MARK = "# Digest: "


def generated_body() -> str:
    import unasync

    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "_async", "client.py")
        copy.parent.mkdir()
        copy.write_text(SOURCE.read_text())
        rule = unasync.Rule("/_async/", "/_sync/", additional_replacements=NAMES)
        unasync.unasync_files([str(copy)], [rule])
        text = Path(directory, "_sync", "client.py").read_text()
    if not text.startswith(SOURCE_HEADER):
        sys.exit(f"{SOURCE.name} does not start with {SOURCE_HEADER!r}")
    return text.removeprefix(SOURCE_HEADER)


def with_digest(body: str) -> str:
    parts = (SOURCE.read_text(), Path(__file__).read_text(), body)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{HEADER}{MARK}{digest}\n{body}"


def is_up_to_date() -> bool:
    text = TARGET.read_text()
    body = text.split("\n", 2)[2]
    return text == with_digest(body)


if __name__ == "__main__":
    if "--check" not in sys.argv:
        TARGET.write_text(with_digest(generated_body()))
    elif not is_up_to_date():
        sys.exit(f"{TARGET.name} is not up to date: run python generate.py")
