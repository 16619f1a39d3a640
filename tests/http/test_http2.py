"""HTTP/2 by prior knowledge, on the same port as HTTP/1.1."""

from __future__ import annotations

import ast
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.conftest import Serve, Shared
from tests.support.flavour import rsgi_only
from tests.support.http2 import PATIENCE, Http2, frame
from tests.support.http2_floods import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    MEBIBYTE,
    NOISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    endless_head,
    endure,
    pings,
    resets,
    settings,
)
from tests.support.programs import curl_with_http2, run
from tests.support.server import Server
from tests.support.waiting import eventually, settled

pytestmark = rsgi_only("it speaks HTTP/2 over TLS only, and not by default")


@pytest.fixture
def receiving(shared: Shared) -> Server:
    return shared("tests.apps.receiving:app")


@pytest.fixture
def sending(shared: Shared) -> Server:
    return shared("tests.apps.sending:app")


# Requests


def scope_of(client: Http2, stream: int) -> dict[str, Any]:
    reply = client.read(stream)
    assert reply.status == 200, reply
    scope = ast.literal_eval(reply.body.decode())
    assert isinstance(scope, dict)
    return scope


def test_the_scope_is_what_asgi_says(shared: Shared) -> None:
    server = shared("tests.apps.scope:app")
    fields = [
        ("cookie", "a=1"),
        ("accept", "*/*"),
        ("cookie", "b=2"),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("host", "ignored"),
    ]
    with Http2(server) as client:
        scope = scope_of(client, client.start("/a%20b?c=d", fields=fields, authority="a.test:80"))
        port = client.wire.socket.getsockname()[1]
    assert scope["type"] == "http"
    assert scope["http_version"] == "2"
    assert (scope["method"], scope["scheme"]) == ("GET", "http")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=d")
    assert (scope["client"], scope["server"]) == (("127.0.0.1", port), ("127.0.0.1", server.port))
    assert [(bytes(name), bytes(value)) for name, value in scope["headers"]] == [
        (b"host", b"a.test:80"),
        (b"accept", b"*/*"),
        (b"x-twice", b"1"),
        (b"x-twice", b"2"),
        (b"cookie", b"a=1; b=2"),
    ]
    assert "http.response.trailers" in scope["extensions"]


def test_httpx_is_served(sending: Server) -> None:
    with httpx.Client(http1=False, http2=True, trust_env=False, timeout=PATIENCE) as client:
        response = client.get(f"{sending.base_url}/chunks")
    assert (response.http_version, response.text) == ("HTTP/2", "hello world")


def test_curl_is_served(sending: Server) -> None:
    flags = ["-sS", "--http2-prior-knowledge", "-w", "%{http_version}"]
    assert run(curl_with_http2(), *flags, f"{sending.base_url}/chunks") == "hello world2"


def test_both_protocols_share_the_port(sending: Server) -> None:
    with sending.connect() as wire, Http2(sending) as client:
        assert client.ask("/length").body == b"hello"
        assert wire.get("/length").body == b"hello"
        assert client.ask("/length").body == b"hello"


def test_a_response_has_the_same_fields_and_none_of_the_connection(sending: Server) -> None:
    with Http2(sending) as client:
        reply = client.ask("/own-chunked")
        assert (reply.body, reply.value("transfer-encoding")) == (b"hello", None)
        reply = client.ask("/close")
        assert (reply.body, reply.value("connection")) == (b"bye", None)
        assert reply.value("server") == "rsgi"
        assert reply.value("date")
        # Fields of one name come together, in their order.
        fields = client.ask("/headers").fields
        assert [value for name, value in fields if name == "x-a"] == ["1", "3"]
        assert ("x-b", "2") in fields


def test_head_has_no_content(sending: Server) -> None:
    with Http2(sending) as client:
        reply = client.read(client.start("/length", "HEAD"))
        assert (reply.status, reply.body, reply.value("content-length")) == (200, b"", "5")


def test_a_hundred_streams_at_a_time_do_not_mix(receiving: Server) -> None:
    with Http2(receiving) as client:
        streams = [client.start("/echo", "POST", body=None) for _ in range(100)]
        for stream in streams:
            client.upload(stream, [b"%d;" % stream * 200])
        for stream in streams:
            assert client.read(stream).body == b"%d;" % stream * 200


def test_a_client_that_waits_is_told_to_go_on(receiving: Server) -> None:
    with Http2(receiving) as client:
        stream = client.start("/echo", "POST", [("expect", "100-continue")], body=None)
        client.until(stream, lambda reply: reply.interim == [100])
        client.upload(stream, [b"content"])
        assert client.read(stream).body == b"content"


def test_the_access_log_names_the_version(serve: Serve) -> None:
    server = serve("tests.apps.sending:app", "--access-log")
    with Http2(server) as client:
        client.ask("/length?a=b")
    assert "HTTP/2" in server.wait_for_access_line(r'"GET /length\?a=b HTTP/2')


# Back-pressure


def test_a_large_upload_leaves_memory_flat(serve: Serve) -> None:
    server = serve("tests.apps.receiving:app")
    with Http2(server) as client:
        assert client.read(client.start("/count", "POST", body=bytes(MEBIBYTE))).body == b"1048576"
        before = peak = server.memory()

        def pieces() -> Any:
            nonlocal peak
            for _ in range(50):
                yield bytes(MEBIBYTE)
                peak = max(peak, server.memory())

        stream = client.start("/count", "POST", body=None)
        client.upload(stream, pieces())
        assert client.read(stream).body == b"%d" % (50 * MEBIBYTE)
    assert peak - before < NOISE


def test_send_waits_for_a_client_that_does_not_open_its_window(serve: Serve, key: str) -> None:
    server = serve("tests.apps.sending:app")
    server.get("/length")
    before = server.memory()
    with Http2(server, reads=False) as client:
        stuck = client.start(f"/flood?{key}")
        client.until(stuck, lambda reply: len(reply.content) == 65535)
        assert settled(lambda: len(server.journal(key))) < 8
        assert server.memory() - before < NOISE
        # Its application hears of it when the client leaves the stream.
        client.reset(stuck)
        eventually(lambda: server.journal(key)[-1].startswith("stopped by"), deadline=PATIENCE)


def test_a_slow_reader_gets_every_byte(sending: Server) -> None:
    with Http2(sending) as client:
        assert len(client.ask("/big").content) == 64 * MEBIBYTE


# Endings


def test_a_reset_is_a_disconnect_and_the_connection_goes_on(receiving: Server, key: str) -> None:
    with Http2(receiving) as client:
        stream = client.start(f"/after-body?{key}")
        receiving.wait_for_journal(key, "waiting")
        client.reset(stream)
        journal = receiving.wait_for_journal(key, "end", PATIENCE)
        assert journal == ["waiting", "http.disconnect", "http.disconnect", "end"]
        assert client.ask("/nothing").body == b"ignored"


def test_a_lost_connection_is_a_disconnect(receiving: Server, key: str) -> None:
    with Http2(receiving) as client:
        client.start(f"/mid-body?{key}", "POST", body=None)
        receiving.wait_for_journal(key, "called")
    receiving.wait_for_journal(key, "http.disconnect", PATIENCE)


def test_a_request_in_flight_finishes_in_a_drain(serve: Serve) -> None:
    server = serve("tests.apps.stopping:app")
    with Http2(server) as client, Http2(server) as idle:
        stream = client.start("/second")
        server.wait_for_log("APP: started")
        server.signal(signal.SIGTERM)
        for connection, answer in [(idle, b""), (client, b"finished")]:
            frames = connection.frames_to_the_end()
            assert b"".join(payload for kind, _, payload in frames if kind == DATA) == answer
            last = [payload for kind, _, payload in frames if kind == GOAWAY][-1]
            assert (last[:4], last[4:8]) == ((stream if answer else 0).to_bytes(4, "big"), bytes(4))
    assert server.wait(PATIENCE) == 0


# Clients that do not mean well


def header_bomb() -> bytes:
    # One field of 4000 bytes goes into the table; then each byte is one more of it.
    begin = GET["http"] + b"\x40\x01x\x7f\xa1\x1e" + b"x" * 4000
    return frame(HEADERS, END_STREAM, 1, begin) + frame(CONTINUATION, 0, 1, b"\xbe" * 16_000) * 200


FLOODS: dict[str, Callable[[], bytes]] = {
    "rapid resets": lambda: resets(GET["http"]),
    "requests": lambda: b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, number, GET["http"])
        for number in range(1, 100_000, 2)
    ),
    "an endless head": lambda: endless_head(GET["http"]),
    "a header bomb": header_bomb,
    "pings": pings,
    "settings": settings,
    "empty settings": lambda: frame(SETTINGS) * 200_000,
    "window updates": lambda: frame(WINDOW_UPDATE, 0, 0, b"\x00\x00\x00\x01") * 200_000,
    "unknown frames": lambda: frame(200, 0, 0, bytes(100)) * 50_000,
    "resets of no stream": lambda: frame(RST_STREAM, 0, 1, bytes(4)) * 200_000,
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_costs_little_and_others_are_served(serve: Serve, kind: str) -> None:
    server = serve("tests.apps.sending:app", "--no-access-log")
    connect = [lambda: server.connect().socket] * 4
    with Http2(server) as honest:
        endure(server, honest, ("/length", b"hello"), connect, FLOODS[kind]())


def test_streams_that_stay_open_hold_little(serve: Serve) -> None:
    server = serve("tests.apps.sending:app", "--no-access-log")
    with Http2(server) as honest:
        honest.ask("/length")
        before = server.memory()
        stuck = [Http2(server, reads=False, window=0) for _ in range(4)]
        for client in stuck:
            for _ in range(50):
                client.start("/length")
        for client in stuck:
            client.until(99, lambda reply: reply.status == 200)
        assert honest.ask("/length").body == b"hello"
        assert server.memory() - before < NOISE
