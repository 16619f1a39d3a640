"""`send()`: framing and flushing (RFC 9112, 6; ASGI HTTP 2.5, "Response Body")."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import Shared
from tests.support.flavour import fails_on_uvicorn, varies_on_uvicorn
from tests.support.server import Server

NAMES_SERVER = {"rsgi": b"rsgi", "uvicorn": b"uvicorn"}
IMF_FIXDATE = re.compile(
    rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
)


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared("tests.apps.sending:app")


def test_a_body_with_a_length_is_not_chunked(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/length")
        assert (response.value(b"content-length"), response.body) == (b"5", b"hello")


def test_a_body_in_parts_without_a_length_is_chunked(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/chunks")
        assert (response.value(b"transfer-encoding"), response.body) == (b"chunked", b"hello world")


@fails_on_uvicorn("writes the head with the start message and must chunk")
def test_a_body_in_one_message_has_its_length(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/single")
        assert (response.value(b"content-length"), response.body) == (b"5", b"hello")


def test_a_length_holds_over_several_messages(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/length-in-parts")
        assert (response.value(b"content-length"), response.body) == (b"10", b"helloworld")


def test_messages_without_bytes_do_not_end_the_body(server: Server) -> None:
    with server.connect() as wire:
        assert wire.get("/empty-chunks").body == b"ab"


def test_left_out_keys_have_their_defaults(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/defaults")
        assert (response.status, response.body) == (200, b"")


def test_headers_may_be_any_iterable(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/iterable-headers")
        assert (response.value(b"x-a"), response.value(b"x-b")) == (b"1", b"1")


def test_response_headers_keep_order_and_duplicates(server: Server) -> None:
    with server.connect() as wire:
        ours = [pair for pair in wire.get("/headers").headers if pair[0].startswith(b"x-")]
        assert ours == [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")]


def test_chunked_asked_for_by_the_application_is_not_done_twice(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/own-chunked")
        assert response.values(b"transfer-encoding") in ([], [b"chunked"])
        assert response.body == b"hello"


def test_server_header_is_added(server: Server) -> None:
    with server.connect() as wire:
        value = wire.get("/length").value(b"server")
        assert value is not None
        assert value.split(b"/")[0].lower() in NAMES_SERVER.values()


def test_date_header_is_added_in_its_format(server: Server) -> None:
    with server.connect() as wire:
        assert IMF_FIXDATE.fullmatch(wire.get("/length").value(b"date") or b"")


def test_server_header_can_be_left_out(shared: Shared) -> None:
    with shared("tests.apps.sending:app", "--no-server-header").connect() as wire:
        assert wire.get("/length").value(b"server") is None


def test_date_header_can_be_left_out(shared: Shared) -> None:
    with shared("tests.apps.sending:app", "--no-date-header").connect() as wire:
        assert wire.get("/length").value(b"date") is None


def test_extra_headers_are_added(shared: Shared) -> None:
    server = shared("tests.apps.sending:app", "--header", "X-One: 1", "--header", "X-Two:2")
    with server.connect() as wire:
        response = wire.get("/length")
        assert (response.value(b"x-one"), response.value(b"x-two")) == (b"1", b"2")


@fails_on_uvicorn("sends its own beside the application's")
def test_headers_of_the_application_win_over_the_server_s(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/own-server-header")
        assert response.values(b"server") == [b"mine"]
        assert response.values(b"date") == [b"yesterday"]


@pytest.mark.parametrize("target", ["/length", "/single", "/chunks", "/empty-chunks"])
def test_head_has_no_body(server: Server, target: str) -> None:
    with server.connect() as wire:
        wire.request(target, "HEAD")
        assert wire.read_response("HEAD").status == 200
        assert wire.get("/length").body == b"hello"


def test_head_keeps_the_content_length(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/length", "HEAD")
        assert wire.read_response("HEAD").value(b"content-length") == b"5"


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(204, marks=fails_on_uvicorn("sends the body")),
        pytest.param(304, marks=fails_on_uvicorn("sends the body")),
    ],
)
def test_a_status_without_body_has_none(server: Server, status: int) -> None:
    with server.connect() as wire:
        assert wire.get(f"/status?{status}").status == status
        assert wire.get("/length").body == b"hello"


@varies_on_uvicorn("raises in the application, sooner or later")
def test_204_has_no_framing_header(server: Server) -> None:
    """RFC 9110, 8.6 and RFC 9112, 6.1: neither field may be sent in a 204."""
    with server.connect() as wire:
        response = wire.get("/status?204")
        assert response.values(b"transfer-encoding") + response.values(b"content-length") == []


@fails_on_uvicorn("sends a chunked body: 205 is no special case")
def test_205_has_no_content(server: Server) -> None:
    """RFC 9110, 15.3.6: a server must not generate content in a 205."""
    with server.connect() as wire:
        assert wire.get("/status?205").body == b""


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, "OK"),
        (201, "Created"),
        (404, "Not Found"),
        (418, "I'm a Teapot"),
        (503, "Service Unavailable"),
    ],
)
def test_the_reason_phrase_is_the_registered_one(server: Server, status: int, reason: str) -> None:
    with server.connect() as wire:
        assert wire.get(f"/status?{status}").reason.lower() == reason.lower()


@pytest.mark.parametrize(
    "status",
    [
        299,
        499,
        599,
        pytest.param(799, marks=fails_on_uvicorn("knows no status above 599")),
        pytest.param(999, marks=fails_on_uvicorn("knows no status above 599")),
    ],
)
def test_a_status_without_registration_is_sent(server: Server, status: int) -> None:
    with server.connect() as wire:
        assert wire.get(f"/status?{status}").status == status


# Flushing


def test_the_first_chunk_leaves_at_once(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/first-byte")
        assert wire.read_head().status == 200
        assert wire.read_chunk() == b"first"


def test_a_body_message_without_bytes_flushes_the_head(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/head-first")
        assert wire.read_head().status == 200


def test_each_chunk_leaves_before_the_next_is_sent(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.request(f"/step?{key}")
        wire.read_head()
        assert wire.read_chunk() == b"one"
        server.get(f"/go?{key}")
        assert wire.read_chunk() == b"two"


def test_http_1_0_streams_are_flushed_too(server: Server) -> None:
    with server.connect() as wire:
        wire.send(b"GET /first-byte HTTP/1.0\r\n\r\n")
        received = wire.read_some()
        while b"first" not in received:
            received += wire.read_some()


# HTTP/1.0


def http_1_0(server: Server, target: str, header: str = "") -> tuple[bytes | None, bytes | None]:
    with server.connect() as wire:
        wire.send(f"GET {target} HTTP/1.0\r\n{header}\r\n".encode())
        response = wire.read_response()
        return response.value(b"transfer-encoding"), response.body


@fails_on_uvicorn("(httptools) chunks for 1.0 clients")
def test_http_1_0_is_never_chunked(server: Server) -> None:
    assert http_1_0(server, "/chunks") == (None, b"hello world")


@fails_on_uvicorn("(httptools) chunks for 1.0 clients")
def test_http_1_0_keep_alive_without_a_length_is_delimited_by_the_close(server: Server) -> None:
    assert http_1_0(server, "/chunks", "Connection: keep-alive\r\n") == (None, b"hello world")


def test_http_1_0_closes_by_default(server: Server) -> None:
    with server.connect() as wire:
        wire.send(b"GET /length HTTP/1.0\r\n\r\n")
        wire.read_response()
        wire.assert_closed()


@fails_on_uvicorn("(httptools) does not say keep-alive to a 1.0 client")
def test_http_1_0_keeps_alive_on_request(server: Server) -> None:
    with server.connect() as wire:
        for _ in range(2):
            wire.send(b"GET /length HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response = wire.read_response()
            assert (response.value(b"connection") or b"").lower() == b"keep-alive"


def test_http_1_0_needs_no_host(server: Server) -> None:
    with server.connect() as wire:
        wire.send(b"GET /length HTTP/1.0\r\n\r\n")
        assert wire.read_response().status == 200


@fails_on_uvicorn("takes messages for a response that is over")
def test_what_an_application_keeps_of_a_request_has_no_part_in_the_next(server: Server) -> None:
    for _ in range(3):
        assert server.get("/keep").content == b"kept"
        with server.connect() as wire:
            wire.send(b"POST /use-kept HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nmine")
            told = json.loads(wire.read_response().body)
        assert (told["received"], told["body"]) == ("http.disconnect", "mine")
        assert "http.response.start" in told["refused"]


def test_a_key_is_what_is_equal_to_it(server: Server) -> None:
    for _ in range(3):
        response = server.get("/unusual-keys")
        assert (response.status_code, response.content) == (201, b"hello")
