"""`Expect: 100-continue` (RFC 9110, 10.1.1): sent when the application asks for the body."""

from __future__ import annotations

import pytest

from tests.conftest import Shared
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.wire import Wire

EXPECT = (("Expect", "100-continue"),)


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared("tests.apps.receiving:app")


def expect(wire: Wire, target: str, *, length: int = 5) -> None:
    wire.request(target, "POST", (*EXPECT, ("Content-Length", str(length))))


def test_100_is_sent_when_the_application_asks_for_the_body(server: Server) -> None:
    with server.connect() as wire:
        expect(wire, "/echo")
        assert wire.read_head().status == 100


def test_the_body_after_100_reaches_the_application(server: Server) -> None:
    with server.connect() as wire:
        expect(wire, "/echo")
        wire.read_head()
        wire.send(b"hello")
        assert wire.read_response().body == b"hello"


def test_100_has_no_header_fields(server: Server) -> None:
    with server.connect() as wire:
        expect(wire, "/echo")
        assert wire.read_head().headers == []


def test_100_is_sent_once(server: Server) -> None:
    with server.connect() as wire:
        expect(wire, "/echo", length=10)
        assert wire.read_head().status == 100
        wire.send(b"hello")
        wire.send(b"world")
        assert wire.read_response().informational == []


def test_100_is_not_sent_to_who_does_not_expect_it(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", (("Content-Length", "5"),))
        assert not wire.is_readable(within=0.2)
        wire.send(b"hello")
        assert wire.read_response().informational == []


def test_100_is_not_sent_when_the_body_is_never_asked_for(server: Server) -> None:
    with server.connect() as wire:
        expect(wire, "/nothing")
        response = wire.read_response()
        assert (response.status, response.informational) == (200, [])


def test_100_is_not_sent_before_the_application_receives(server: Server, key: str) -> None:
    with server.connect() as wire:
        expect(wire, f"/never-reads?{key}")
        server.wait_for_journal(key, "called")
        assert not wire.is_readable(within=0.2)


def test_100_is_not_needed_when_the_body_came_with_the_head(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", EXPECT, body=b"hello")
        assert wire.read_response().body == b"hello"


def test_the_connection_ends_or_goes_on_when_the_body_was_not_asked_for(server: Server) -> None:
    """The client may send the body or not; the next bytes must not be taken for the wrong one."""
    with server.connect() as wire:
        expect(wire, "/nothing")
        response = wire.read_response()
        if response.value(b"connection") == b"close":
            wire.assert_closed()
        else:
            wire.send(b"hello")
            assert wire.get("/nothing").status == 200


def test_chunked_body_after_100_reaches_the_application(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", (*EXPECT, ("Transfer-Encoding", "chunked")))
        assert wire.read_head().status == 100
        wire.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert wire.read_response().body == b"hello"


def test_the_expectation_is_compared_in_any_case(server: Server) -> None:
    with server.connect() as wire:
        headers = (("Expect", "100-Continue"), ("Content-Length", "5"))
        wire.request("/echo", "POST", headers)
        assert wire.read_head().status == 100


@rsgi_only("waits for the body")
def test_http_1_0_gets_no_100(server: Server) -> None:
    """RFC 9110, 10.1.1: a server must not send it to a 1.0 client."""
    with server.connect() as wire:
        wire.send(b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
        assert wire.read_response().informational == []


@rsgi_only("ignores it")
def test_an_unknown_expectation_is_417(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", (("Expect", "miracles"), ("Content-Length", "5")))
        assert wire.read_response().status == 417
