"""HTTP/2 frames from clients that do not mean well, and an honest one beside them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterable

from tests.support.http2 import PREFACE, Http2, frame
from tests.support.server import Server

MEBIBYTE = 1 << 20
#: How far the resident set may move for other reasons (first use of code, allocator arenas).
NOISE = 24 * MEBIBYTE
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM, END_HEADERS = 1, 4
#: `GET /`, from HPACK's static table, by its scheme.
GET = {"http": b"\x82\x84\x86\x41\x01a", "https": b"\x82\x84\x87\x41\x01a"}


def resets(head: bytes, flags: int = END_HEADERS | END_STREAM) -> bytes:
    """Return requests that are taken back at once."""
    cancel = (8).to_bytes(4, "big")
    return b"".join(
        frame(HEADERS, flags, number, head) + frame(RST_STREAM, 0, number, cancel)
        for number in range(1, 40_000, 2)
    )


def endless_head(get: bytes) -> bytes:
    """Return a request whose head does not end."""
    field = b"\x00\x01x\x7f\xe9\x06" + b"x" * 1000
    return frame(HEADERS, END_STREAM, 1, get) + frame(CONTINUATION, 0, 1, field * 16) * 500


def pings() -> bytes:
    """Return pings, each of which wants an answer."""
    return frame(PING, 0, 0, bytes(8)) * 200_000


def settings() -> bytes:
    """Return settings, each of which wants an answer."""
    return frame(SETTINGS, 0, 0, b"\x00\x04\x00\x00\xff\xff") * 200_000


def endure(
    server: Server,
    honest: Http2,
    expected: tuple[str, bytes],
    connect: Iterable[Callable[[], socket.socket]],
    flood: bytes,
) -> None:
    """Send it on some connections; the honest client is served meanwhile, and memory stays flat."""
    path, body = expected
    assert honest.ask(path).body == body
    before = server.memory()
    with contextlib.ExitStack() as stack:
        rest = {}
        for open_one in connect:
            client = stack.enter_context(open_one())
            client.sendall(PREFACE + frame(SETTINGS))
            client.setblocking(False)
            rest[client] = memoryview(flood)
        slowest, end = 0.0, time.monotonic() + 1.5
        while time.monotonic() < end:
            for client in list(rest):
                try:
                    # The answers are left where they are.
                    rest[client] = rest[client][client.send(rest[client][: 64 * 1024]) :]
                except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    continue
                except OSError:
                    del rest[client]
                    continue
                if not rest[client]:
                    del rest[client]
            start = time.monotonic()
            assert honest.ask(path).body == body
            slowest = max(slowest, time.monotonic() - start)
            assert server.memory() - before < NOISE
        assert slowest < 5
        assert server.is_running()
