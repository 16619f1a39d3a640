"""A side that does not read stops the other side; the server holds little in between."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import Serve, Shared
from tests.support.server import Server
from tests.support.waiting import eventually, settled
from tests.support.wire import Wire

MEBIBYTE = 1 << 20

# What two socket buffers of the kernel may hold (maxima of tcp_rmem and tcp_wmem: 6 and 4 MiB).
IN_KERNEL = 11 * MEBIBYTE
# What the server may hold per connection; its own buffers are far smaller, an allocator rounds up.
IN_SERVER = 8 * MEBIBYTE
# How far the resident set may move for other reasons (first use of code, allocator arenas).
NOISE = 24 * MEBIBYTE


@pytest.fixture
def receiving(shared: Shared) -> Server:
    return shared("tests.apps.receiving:app")


@pytest.fixture
def sending(shared: Shared) -> Server:
    return shared("tests.apps.sending:app")


def push_until_blocked(wire: Wire, limit: int) -> int:
    """Send zeros until the kernel takes no more for half a second; return how many it took."""
    sent, block = 0, bytes(65536)
    wire.socket.setblocking(False)
    while sent < limit and wire.is_writable(within=0.5):
        sent += wire.socket.send(block)
    return sent


@pytest.mark.parametrize("framing", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"])
def test_a_client_blocks_when_the_application_does_not_read(
    receiving: Server, key: str, framing: str
) -> None:
    with receiving.connect() as wire:
        head = f"POST /never-reads?{key} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"
        wire.send(head.encode() + b"3B9ACA00\r\n" * ("chunked" in framing))
        receiving.wait_for_journal(key, "called")
        assert push_until_blocked(wire, 100 * MEBIBYTE) < IN_KERNEL + IN_SERVER


def test_other_connections_go_on_while_one_is_blocked(receiving: Server, key: str) -> None:
    with receiving.connect() as wire:
        wire.request(f"/never-reads?{key}", "POST", (("Content-Length", "1000000000"),))
        push_until_blocked(wire, 100 * MEBIBYTE)
        assert receiving.get("/nothing").status_code == 200


@pytest.mark.parametrize("framing", ["Content-Length", "Transfer-Encoding"])
def test_a_large_upload_leaves_memory_flat(serve: Serve, framing: str) -> None:
    server = serve("tests.apps.receiving:app")
    block, blocks = bytes(MEBIBYTE), 200
    is_chunked = framing == "Transfer-Encoding"
    value = "chunked" if is_chunked else str(blocks * MEBIBYTE)
    with server.connect() as wire:
        wire.request("/count", "POST", ((framing, value),))
        piece = b"100000\r\n%b\r\n" % block if is_chunked else block
        wire.send(piece)
        before = peak = server.memory()
        for _ in range(blocks - 1):
            wire.send(piece)
            peak = max(peak, server.memory())
        wire.send(b"0\r\n\r\n" * is_chunked)
        assert wire.read_response().body == b"%d" % (blocks * MEBIBYTE)
    assert peak - before < NOISE


def test_send_waits_for_a_client_that_does_not_read(sending: Server, key: str) -> None:
    with sending.connect(receive_buffer=65536) as wire:
        wire.request(f"/flood?{key}")
        wire.read_head()
        sent = settled(lambda: len(sending.journal(key)))
        assert sent < (IN_KERNEL + IN_SERVER) // MEBIBYTE


def test_a_waiting_send_goes_on_when_the_client_reads(sending: Server, key: str) -> None:
    with sending.connect(receive_buffer=65536) as wire:
        wire.request(f"/flood?{key}")
        wire.read_head()
        sent = settled(lambda: len(sending.journal(key)))
        for _ in range(16 * 20):
            wire.read_chunk()
        assert eventually(lambda: len(sending.journal(key)) > sent)


def test_a_waiting_send_raises_when_the_client_leaves(sending: Server, key: str) -> None:
    with sending.connect(receive_buffer=65536) as wire:
        wire.request(f"/flood?{key}")
        wire.read_head()
        settled(lambda: len(sending.journal(key)))
    assert eventually(lambda: not _is_flooding(sending, key))


def _is_flooding(server: Server, key: str) -> bool:
    entries = server.journal(key)
    return not (entries[-1].startswith("stopped by") or len(entries) >= 256)


def test_a_slow_reader_leaves_memory_flat(serve: Serve, key: str) -> None:
    server = serve("tests.apps.sending:app")
    before = server.memory()
    with server.connect(receive_buffer=65536) as wire:
        wire.request(f"/flood?{key}")
        wire.read_head()
        settled(lambda: len(server.journal(key)))
        assert server.memory() - before < NOISE


def test_a_slow_reader_gets_every_byte(sending: Server) -> None:
    with sending.connect(receive_buffer=65536) as wire:
        assert len(wire.get("/big").body) == 64 * MEBIBYTE


def test_fifty_uploads_at_once_do_not_mix(receiving: Server) -> None:
    failures: list[int] = []

    def upload(number: int) -> None:
        body = bytes([number]) * 200_000
        with receiving.connect() as wire:
            wire.request("/echo", "POST", body=body)
            if wire.read_response().body != body:
                failures.append(number)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
