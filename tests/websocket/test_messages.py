"""Messages both ways, with real clients, and what holds them back."""

from __future__ import annotations

import json
import os
import re
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.exceptions import ConnectionClosedError
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from tests.conftest import Serve, Shared
from tests.support.server import Server
from tests.support.waiting import eventually, settled
from tests.support.websocket import BINARY, FIN, RSV1, TEXT, RawWebSocket, frame, open_client

APP = "tests.apps.sockets.scenarios:app"
MESSAGES: list[str | bytes] = [
    "x",
    "",
    b"",
    "hello " * 1000,
    "\u017elu\u0165ou\u010dk\u00fd " * 20_000,
    bytes(70_000),
    os.urandom(1_000_000),
    # With and without memory of their own, in one read, and not a multiple of a word.
    *(os.urandom(length) for length in (1, 64, 65, 66, 71, 72, 1000, 4003, 65_536)),
]


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared(APP)


@pytest.mark.parametrize("compression", ["deflate", None])
def test_websockets_gets_back_what_it_sends(server: Server, compression: str | None) -> None:
    with open_client(server, compression=compression) as client:
        assert client.response is not None
        assert ("sec-websocket-extensions" in client.response.headers) == bool(compression)
        for message in MESSAGES:
            client.send(message)
            assert client.recv(timeout=30) == message
        client.send(iter(["in ", "three ", "parts"]))
        assert client.recv(timeout=30) == "in three parts"
        assert client.ping().wait(30)


def test_compression_can_be_switched_off(serve: Serve) -> None:
    server = serve(APP, "--no-ws-per-message-deflate")
    with open_client(server) as client:
        assert client.response is not None
        assert "sec-websocket-extensions" not in client.response.headers
        client.send("x" * 1000)
        assert client.recv(timeout=30) == "x" * 1000


def test_small_messages_are_not_compressed(server: Server) -> None:
    offer = ("Sec-WebSocket-Extensions", "permessage-deflate")
    with RawWebSocket(server, "/echo", offer) as client:
        for length, first in [(255, FIN | TEXT), (256, FIN | RSV1 | TEXT)]:
            client.send(TEXT, b"x" * length)
            got = client.read()
            assert got.first == first
        inflate = zlib.decompressobj(-12)
        assert inflate.decompress(got.payload + b"\x00\x00\xff\xff") == b"x" * 256


@pytest.mark.parametrize("compressed", [True, False])
def test_wsproto_gets_back_what_it_sends(server: Server, compressed: bool) -> None:
    client = WSConnection(ConnectionType.CLIENT)
    extensions = [PerMessageDeflate()] if compressed else []
    with server.connect() as wire:
        wire.send(client.send(Request(host="localhost", target="/echo", extensions=extensions)))
        events: list[object] = []

        def next_event() -> object:
            while not events:
                client.receive_data(wire.read_some())
                events.extend(client.events())
            return events.pop(0)

        accepted = next_event()
        assert isinstance(accepted, AcceptConnection)
        assert bool(accepted.extensions) == compressed
        for message in MESSAGES:
            kind = TextMessage if isinstance(message, str) else BytesMessage
            wire.send(client.send(kind(data=message)))  # type: ignore[arg-type]
            parts = []
            while True:
                event = next_event()
                assert isinstance(event, kind)
                parts.append(event.data)
                if event.message_finished:
                    break
            assert type(message)().join(parts) == message  # type: ignore[arg-type]
        wire.send(client.send(Ping(b"p")))
        assert next_event() == Pong(b"p")
        wire.send(client.send(CloseConnection(code=4001, reason="bye")))
        closed = next_event()
        assert isinstance(closed, CloseConnection)
        assert closed.code == 4001


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({}, "TypeError: an ASGI message must have a `type`"),
        ({"type": "websocket.send"}, "ValueError: .* neither `text` nor `bytes`"),
        (
            {"type": "websocket.send", "text": None, "bytes": None},
            "ValueError: .* neither `text` nor `bytes`",
        ),
        (
            {"type": "websocket.send", "text": "a", "raw": "b"},
            "ValueError: .* both `text` and `bytes`",
        ),
        ({"type": "websocket.send", "text": 1}, "TypeError: `text` .* must be str, not `int`"),
        ({"type": "websocket.send", "bytes": "a"}, "TypeError: `bytes` .* bytes, not `str`"),
        ({"type": "websocket.accept"}, "RuntimeError: unexpected .*`websocket.accept`.* is open.*"),
        ({"type": "websocket.close", "code": 1006}, "ValueError: `code` .* not `1006`"),
        ({"type": "websocket.close", "code": "x"}, "TypeError: `code` .* int, not `str`"),
        ({"type": "websocket.close", "reason": 1}, "TypeError: `reason` .* str, not `int`"),
        ({"type": "websocket.receive"}, "RuntimeError: unknown ASGI message .*"),
        ({"type": "websocket.http.response.start", "status": 200}, "RuntimeError: .* is open.*"),
    ],
)
def test_misuse_is_named(server: Server, message: dict[str, object], error: str) -> None:
    with open_client(server, "/misuse") as client:
        client.send(json.dumps(message))
        got = client.recv(timeout=30)
        assert isinstance(got, str)
        assert re.fullmatch(error, got), got
        # Nothing is broken by it.
        client.send(json.dumps({"type": "websocket.send", "text": "fine", "bytes": None}))
        assert client.recv(timeout=30) == "fine"


def test_a_message_that_is_too_big_is_a_1009(serve: Serve, key: str) -> None:
    server = serve(APP, "--ws-max-size", "1000")
    with open_client(server, f"/echo?{key}") as client:
        client.send("x" * 1000)
        assert len(client.recv(timeout=30)) == 1000
        client.send("x" * 1001)
        with pytest.raises(ConnectionClosedError) as closed:
            client.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    server.wait_for_journal(key, "disconnect 1009 message is too big")


def test_a_decompression_bomb_is_a_1009_and_takes_no_memory(serve: Serve) -> None:
    server = serve(APP)
    # Fill the allocator's pools first.
    with open_client(server) as client:
        client.send(bytes(16 * 1024 * 1024))
        client.recv(timeout=30)
    before = server.memory()
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compressor.compress(bytes(1 << 30)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert len(data) < 2 << 20
    with RawWebSocket(server, "/echo", ("Sec-WebSocket-Extensions", "permessage-deflate")) as raw:
        raw.send(BINARY, data[:-4], FIN | RSV1)
        raw.expect_closed(1009)
    assert server.memory() - before < 64 << 20


def test_an_application_that_does_not_receive_stops_the_client(serve: Serve, key: str) -> None:
    server = serve(APP)
    with RawWebSocket(server, f"/deaf?{key}", send_buffer=32 * 1024) as raw:
        server.wait_for_journal(key, "accepted")
        before = server.memory()
        # 100 MB, of which the kernel's buffers take some and the server next to nothing.
        flood = memoryview(frame(TEXT, b"x" * 1000) * 100_000)
        sent = 0
        while sent < len(flood) and raw.wire.is_writable(within=1):
            sent += raw.wire.socket.send(flood[sent : sent + 16384])
        assert sent < len(flood) // 2, "the server takes everything"
        assert server.memory() - before < 16 << 20
        # Nothing of it is lost.
        server.get(f"/go?{key}")
        each = len(flood) // 100_000
        rest = -sent % each
        raw.wire.send(bytes(flood[sent : sent + rest]))
        raw.send(TEXT, b"last")
        raw.expect(TEXT, b"%d" % ((sent + rest) // each))


def test_a_client_that_does_not_read_makes_the_application_wait(serve: Serve, key: str) -> None:
    server = serve(APP)
    with RawWebSocket(server, f"/flood?{key}", receive_buffer=32 * 1024) as raw:
        sent = settled(lambda: len(server.journal(key)))
        assert sent < 150, "the application is never held back"
        for _ in range(200):
            assert raw.read().payload == bytes(65536)
        server.wait_for_journal(key, "199")


def test_a_thousand_websockets_are_served_at_once(serve: Serve) -> None:
    server = serve(APP)
    opened = [RawWebSocket(server) for _ in range(1000)]
    for number, client in enumerate(opened):
        client.send(TEXT, b"%d" % number)
    for number, client in enumerate(opened):
        client.expect(TEXT, b"%d" % number)


def test_many_clients_at_once_get_their_own_messages(server: Server) -> None:
    def talk(number: int) -> None:
        with open_client(server) as client:
            for length in (10, 1000, 100_000):
                message = f"{number} " * length
                client.send(message)
                assert client.recv(timeout=30) == message

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(talk, range(40)))


def test_every_message_counts_as_a_request(serve: Serve) -> None:
    server = serve(APP, "--limit-max-requests", "20")
    first = server.worker_pids()[0]
    with open_client(server) as client:
        for _ in range(25):
            client.send("x")
            assert client.recv(timeout=30) == "x"
        server.wait_for_log("Maximum request limit reached.")
    eventually(lambda: server.worker_pids() not in ([], [first]), "another worker")
