"""WebSockets over HTTP/2 in clear text (RFC 8441), beside requests on the same connection."""

from __future__ import annotations

import signal

import pytest
from wsproto.events import CloseConnection

from tests.conftest import Serve, Shared
from tests.support.flavour import rsgi_only
from tests.support.http2 import PATIENCE, Http2
from tests.support.http2_websocket import SocketOverHttp2
from tests.support.server import Server
from tests.support.waiting import settled

pytestmark = rsgi_only("opens WebSockets over HTTP/1.1 only")

APP = "tests.apps.sockets.scenarios:app"
MEBIBYTE = 1 << 20
DATA = 0
# How far the resident set may move for other reasons (first use of code, allocator arenas).
NOISE = 24 * MEBIBYTE


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared(APP)


def test_an_application_answers_as_it_likes(server: Server) -> None:
    with Http2(server) as client:
        offer = ("sec-websocket-protocol", "a, b")
        chosen = SocketOverHttp2(client, "/subprotocol", offer)
        assert chosen.answer.status == 200
        assert chosen.answer.value("sec-websocket-protocol") == "b"
        assert chosen.answer.value("x-one") == "1"
        assert chosen.answer.value("connection") is None
        assert chosen.receive() == "ok"
        denied = client.read(SocketOverHttp2(client, "/deny").stream)
        assert (denied.status, denied.body, denied.value("x-why")) == (418, b"no way", "tired")
        assert SocketOverHttp2(client, "/refuse").answer.status == 403
        closing = SocketOverHttp2(client, "/close").receive_event()
        assert isinstance(closing, CloseConnection)
        assert (closing.code, closing.reason) == (4002, "b\u00fc")


def test_a_reset_is_a_client_that_left(server: Server, key: str) -> None:
    with Http2(server) as client:
        left = SocketOverHttp2(client, f"/echo?{key}")
        stays = SocketOverHttp2(client, "/echo")
        client.reset(left.stream)
        server.wait_for_journal(key, "disconnect 1006", PATIENCE)
        stays.send("still here")
        assert stays.receive() == "still here"


def test_the_access_log_says_what_it_says_over_http1(serve: Serve) -> None:
    server = serve(APP, "--access-log")
    with Http2(server) as client:
        SocketOverHttp2(client, "/echo?a=b").close()
        SocketOverHttp2(client, "/refuse")
    assert "[accepted]" in server.wait_for_access_line(r'"WebSocket /echo\?a=b"')
    assert "403" in server.wait_for_access_line(r'"WebSocket /refuse"')


def test_an_application_that_does_not_receive_holds_its_client_back(serve: Serve) -> None:
    server = serve(APP, "--no-access-log")
    with Http2(server) as client:
        websocket = SocketOverHttp2(client, "/deaf")
        before = server.memory()
        message, sent = "x" * 1000, 0
        while client.h2.local_flow_control_window(websocket.stream) > 2000:
            websocket.send(message)
            sent += 1
        assert sent < 400, "a window of 256 KiB, and what the application's queue holds"
        assert server.memory() - before < NOISE
        # Requests are not held back.
        assert client.ask("/go").status == 200
        websocket.send("last")
        assert websocket.receive() == str(sent)


def test_send_waits_for_a_client_that_does_not_open_its_window(serve: Serve, key: str) -> None:
    server = serve(APP, "--no-access-log")
    server.get("/")
    before = server.memory()
    with Http2(server, reads=False) as client:
        stuck = SocketOverHttp2(client, f"/flood?{key}")
        client.until(stuck.stream, lambda reply: len(reply.content) == 65535)
        assert settled(lambda: len(server.journal(key))) < 8
        assert server.memory() - before < NOISE


def test_a_stop_says_so_and_lets_the_application_have_its_say(serve: Serve) -> None:
    server = serve(APP)
    with Http2(server) as client:
        SocketOverHttp2(client, "/goodbye")
        server.signal(signal.SIGTERM)
        expected, content = b"\x81\x0fdisconnect 1012\x81\x07goodbye\x88\x02\x03\xf4", b""
        # `h2` takes next to nothing after a GOAWAY.
        while len(content) < len(expected):
            head = client.wire.read_exactly(9)
            payload = client.wire.read_exactly(int.from_bytes(head[:3]))
            content += payload if head[3] == DATA else b""
        assert content == expected
    assert server.wait(PATIENCE) == 0


def test_websockets_can_be_off(serve: Serve) -> None:
    server = serve(APP, "--ws", "none")
    with Http2(server) as client:
        assert client.ask("/").body == b"http"
        assert not client.h2.remote_settings.enable_connect_protocol
        stream = client.start("/echo", "CONNECT", body=None, protocol="websocket")
        assert client.read(stream).reset == 1
        assert client.ask("/").body == b"http"
