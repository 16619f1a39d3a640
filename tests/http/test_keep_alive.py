"""One connection, many requests: reuse, pipelining, and when it ends (RFC 9112, 9)."""

from __future__ import annotations

import pytest

from tests.conftest import Shared
from tests.support.server import Server
from tests.support.wire import Response, Wire

GET = b"GET /length HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared("tests.apps.sending:app")


@pytest.fixture
def receiving(shared: Shared) -> Server:
    return shared("tests.apps.receiving:app")


def post(target: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_a_connection_serves_many_requests(server: Server) -> None:
    with server.connect() as wire:
        assert [wire.get("/length").body for _ in range(20)] == [b"hello"] * 20


def test_responses_of_every_framing_share_a_connection(server: Server) -> None:
    with server.connect() as wire:
        bodies = [wire.get(target).body for target in ("/length", "/chunks", "/single", "/length")]
    assert bodies == [b"hello", b"hello world", b"hello", b"hello"]


def test_connection_close_of_the_client_is_honoured(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/length", headers=(("Connection", "close"),))
        assert wire.read_response().body == b"hello"
        wire.assert_closed()


def test_connection_close_of_the_client_is_answered_in_the_header(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/length", (("Connection", "close"),))
        assert (response.value(b"connection") or b"").lower() == b"close"


@pytest.mark.parametrize("value", ["Close", "keep-alive, close", "foo,close"])
def test_connection_close_is_found_in_a_list_in_any_case(server: Server, value: str) -> None:
    with server.connect() as wire:
        wire.get("/length", (("Connection", value),))
        wire.assert_closed()


def test_connection_close_of_the_application_is_honoured(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/close")
        assert response.value(b"connection") == b"close"
        wire.assert_closed()


def test_http_1_1_does_not_say_keep_alive_for_nothing(server: Server) -> None:
    with server.connect() as wire:
        assert wire.get("/length").value(b"connection") is None


@pytest.mark.parametrize("count", [2, 100])
def test_pipelined_requests_are_answered_in_order(receiving: Server, count: int) -> None:
    with receiving.connect() as wire:
        wire.send(b"".join(post("/echo", b"%d" % index) for index in range(count)))
        assert [wire.read_response().body for _ in range(count)] == [
            b"%d" % index for index in range(count)
        ]


def test_pipelined_requests_wait_for_a_slow_one(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.send(b"GET /step?%b HTTP/1.1\r\nHost: a\r\n\r\n" % key.encode() + GET)
        wire.read_head()
        assert wire.read_chunk() == b"one"
        assert not wire.is_readable(within=0.1)
        server.get(f"/go?{key}")
        assert wire.read_chunk() == b"two"
        assert wire.read_chunk() == b""
        wire.read_trailers()
        assert wire.read_response().body == b"hello"


def test_a_request_pipelined_after_a_post_is_answered(receiving: Server) -> None:
    with receiving.connect() as wire:
        wire.send(post("/echo", b"first") + b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [wire.read_response().body for _ in range(2)] == [b"first", b"ignored"]


def test_a_request_pipelined_after_a_chunked_post_is_answered(receiving: Server) -> None:
    chunked = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with receiving.connect() as wire:
        wire.send(chunked + b"5\r\nfirst\r\n0\r\n\r\n" + post("/echo", b"second"))
        assert [wire.read_response().body for _ in range(2)] == [b"first", b"second"]


def test_requests_after_connection_close_are_not_answered(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/length", headers=(("Connection", "close"),))
        wire.send_as_far_as_accepted(GET)
        assert wire.read_to_end().count(b"HTTP/1.1 200") == 1


def test_a_pipelined_request_split_anywhere_is_answered(server: Server) -> None:
    with server.connect() as wire:
        for split in range(1, len(GET)):
            wire.send(GET + GET[:split])
            assert wire.read_response().body == b"hello"
            wire.send(GET[split:])
            assert wire.read_response().body == b"hello"


def after_unread_body(wire: Wire, response: Response) -> None:
    if (response.value(b"connection") or b"").lower() == b"close":
        wire.assert_closed()
    else:
        assert wire.get("/nothing").body == b"ignored"


@pytest.mark.parametrize("size", [1, 10_000, 300_000])
def test_after_an_unread_body_the_connection_works_or_says_close(
    receiving: Server, size: int
) -> None:
    with receiving.connect() as wire:
        wire.send_as_far_as_accepted(post("/nothing", b"x" * size))
        response = wire.read_response()
        assert response.body == b"ignored"
        after_unread_body(wire, response)


def test_after_an_unread_chunked_body_the_connection_works_or_says_close(
    receiving: Server,
) -> None:
    with receiving.connect() as wire:
        wire.request("/nothing", "POST", (("Transfer-Encoding", "chunked"),))
        wire.send_as_far_as_accepted(b"3\r\nabc\r\n" * 100 + b"0\r\n\r\n")
        after_unread_body(wire, wire.read_response())


def test_a_response_before_the_body_is_not_lost(receiving: Server) -> None:
    """The client must get the answer although it still sends (RFC 9112, 9.6: lingering close)."""
    with receiving.connect() as wire:
        wire.request("/nothing", "POST", (("Content-Length", "3000000"),))
        wire.send_as_far_as_accepted(b"x" * 3_000_000)
        assert wire.read_response().body == b"ignored"


def test_an_unread_body_is_not_taken_for_a_request(receiving: Server, key: str) -> None:
    hidden = f"GET /expect?{key} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with receiving.connect() as wire:
        wire.send_as_far_as_accepted(post("/nothing", hidden, "Connection: close"))
        wire.read_to_end()
    assert receiving.journal(key) == []


def test_empty_lines_before_a_request_are_skipped(server: Server) -> None:
    """RFC 9112, 2.2: a server should ignore at least one CRLF before the request line."""
    with server.connect() as wire:
        wire.send(b"\r\n" + GET)
        assert wire.read_response().body == b"hello"


def test_httpx_is_served_on_one_connection(server: Server) -> None:
    ports = set()
    with server.client() as client:
        for _ in range(10):
            with client.stream("GET", "/length") as response:
                ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
                assert response.read() == b"hello"
    assert len(ports) == 1
