"""Requests that break the rules: their status, the reason in the log, the end of the connection.

The corpus in `tests/requests` is larger; here is one request per kind, and all around the answer.
"""

from __future__ import annotations

import re

import pytest

from tests.conftest import Serve, Shared
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.wire import Wire

pytestmark = rsgi_only("answers 400 or nothing, and logs no reason")

HOST = b"Host: a\r\n"

BAD: dict[str, tuple[int, bytes]] = {
    "no-host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two-hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "no-version": (400, b"GET /\r\n\r\n"),
    "nonsense": (400, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
    "space-before-colon": (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    "folded-field": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n"),
    "nul-in-value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n"),
    "bare-lf": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "length-is-no-number": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"),
    "length-is-negative": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    "two-lengths": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ),
    "length-and-chunked": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    "chunked-twice": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    ),
    "target-too-long": (414, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "expectation": (417, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n"),
    "head-too-large": (
        431,
        b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    ),
    "too-many-fields": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 200 + b"\r\n"),
    "unknown-coding": (
        501,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ),
    "connect": (501, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    "version": (505, b"GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
}

CASES = [pytest.param(status, request, id=name) for name, (status, request) in BAD.items()]
REQUESTS = [pytest.param(request, id=name) for name, (_, request) in BAD.items()]


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared("tests.apps.receiving:app")


def refused(wire: Wire, request: bytes) -> bytes:
    wire.send_as_far_as_accepted(request)
    return wire.read_to_end()


@pytest.mark.parametrize(("status", "request_"), CASES)
def test_a_bad_request_gets_its_status(server: Server, status: int, request_: bytes) -> None:
    with server.connect() as wire:
        wire.send_as_far_as_accepted(request_)
        assert wire.read_response().status == status


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_bad_request_is_answered_with_connection_close(server: Server, request_: bytes) -> None:
    with server.connect() as wire:
        wire.send_as_far_as_accepted(request_)
        assert wire.read_head().value(b"connection") == b"close"


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_bad_request_ends_the_connection(server: Server, request_: bytes) -> None:
    with server.connect() as wire:
        wire.send_as_far_as_accepted(request_)
        wire.read_response()
        wire.assert_closed()


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_bad_request_is_logged_with_peer_and_reason(serve: Serve, request_: bytes) -> None:
    server = serve("tests.apps.receiving:app")
    with server.connect() as wire:
        name = re.escape(wire.name)
        refused(wire, request_)
        server.wait_for_log(rf"WARNING:\s+Invalid HTTP request received\b.*{name}.*: \S+")


def test_a_good_request_before_a_bad_one_is_answered(server: Server) -> None:
    with server.connect() as wire:
        wire.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n" + BAD["no-host"][1])
        assert [wire.read_response().status for _ in range(2)] == [200, 400]


def test_nothing_after_a_bad_request_is_answered(server: Server, key: str) -> None:
    hidden = f"GET /expect?{key} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with server.connect() as wire:
        assert refused(wire, BAD["two-lengths"][1] + hidden).count(b"HTTP/1.1 ") == 1
    assert server.journal(key) == []


def test_a_bad_request_does_not_reach_the_application(server: Server, key: str) -> None:
    with server.connect() as wire:
        refused(wire, f"GET /expect?{key} HTTP/1.1\r\n\r\n".encode())
    assert server.journal(key) == []


MALFORMED_CHUNKS = {
    "size-is-no-number": b"xyz\r\n",
    "size-is-negative": b"-1\r\nabc\r\n",
    "size-with-prefix": b"0x3\r\nabc\r\n",
    "size-too-large": b"1" * 20 + b"\r\n",
    "data-too-long": b"3\r\nabcdef\r\n0\r\n\r\n",
    "bare-lf": b"3\nabc\n0\n\n",
    "space-in-size": b"3 \r\nabc\r\n0\r\n\r\n",
    "bad-trailer": b"0\r\nno colon\r\n\r\n",
}
CHUNKED = (("Transfer-Encoding", "chunked"),)


@pytest.mark.parametrize("name", sorted(MALFORMED_CHUNKS))
def test_a_malformed_chunk_while_the_application_reads_is_400(server: Server, name: str) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", CHUNKED)
        wire.send(b"5\r\nhello\r\n")
        wire.send_as_far_as_accepted(MALFORMED_CHUNKS[name])
        assert wire.read_response().status == 400
        wire.assert_closed()


@pytest.mark.parametrize("name", sorted(MALFORMED_CHUNKS))
def test_a_malformed_chunk_is_a_disconnect_to_the_application(
    server: Server, key: str, name: str
) -> None:
    with server.connect() as wire:
        wire.request(f"/mid-body?{key}", "POST", CHUNKED)
        wire.send_as_far_as_accepted(b"5\r\nhello\r\n" + MALFORMED_CHUNKS[name])
        wire.read_to_end()
    assert server.wait_for_journal(key, "http.disconnect") == ["called", "http.disconnect"]


def test_a_malformed_chunk_after_the_response_started_is_a_cut(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.request(f"/receive-while-sending?{key}", "POST", CHUNKED)
        server.wait_for_journal(key, "started")
        wire.read_head()
        assert wire.read_chunk() == b"started"
        wire.send(b"xyz\r\n")
        wire.assert_closed()


@pytest.mark.parametrize("name", sorted(MALFORMED_CHUNKS))
def test_a_malformed_chunk_nobody_reads_ends_the_connection(server: Server, name: str) -> None:
    """The answer may come first; the bytes after the malformed chunk are never a request."""
    with server.connect() as wire:
        wire.request("/nothing", "POST", CHUNKED)
        wire.send_as_far_as_accepted(MALFORMED_CHUNKS[name])
        wire.send_as_far_as_accepted(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        statuses = re.findall(rb"HTTP/1\.1 (\d+)", wire.read_to_end())
        assert statuses in ([b"200"], [b"400"], [b"200", b"400"])
