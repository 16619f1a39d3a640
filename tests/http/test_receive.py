"""`receive()`: the body in its parts and the disconnect (ASGI HTTP 2.5, "Request")."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from tests.conftest import Shared
from tests.support.server import Server
from tests.support.wire import Wire

APP = "tests.apps.receiving:app"
CHUNKED = (("Transfer-Encoding", "chunked"),)


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared(APP)


def as_chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))


def echo(wire: Wire, *parts: bytes, target: str = "/echo") -> bytes:
    wire.request(target, "POST", CHUNKED)
    wire.send(as_chunks(*parts))
    response = wire.read_response()
    assert response.status == 200, response
    return response.body


def messages_for(server: Server, request: bytes) -> list[dict[str, Any]]:
    with server.connect() as wire:
        wire.send(request)
        messages: list[dict[str, Any]] = ast.literal_eval(wire.read_response().body.decode())
    return messages


@pytest.mark.parametrize("size", [1, 1000, 65536, 1_000_000])
def test_a_body_with_a_length_arrives_whole(server: Server, size: int) -> None:
    body = bytes(index % 251 for index in range(size))
    with server.connect() as wire:
        wire.request("/echo", "POST", body=body)
        assert wire.read_response().body == body


def test_a_chunked_body_arrives_joined(server: Server) -> None:
    with server.connect() as wire:
        assert echo(wire, b"hello ", b"chunked ", b"world") == b"hello chunked world"


def test_ten_thousand_chunks_of_one_byte_arrive(server: Server) -> None:
    with server.connect() as wire:
        assert echo(wire, *[b"x"] * 10_000) == b"x" * 10_000


def test_a_chunk_of_a_mebibyte_arrives(server: Server) -> None:
    with server.connect() as wire:
        assert echo(wire, b"y" * (1 << 20)) == b"y" * (1 << 20)


def test_chunk_extensions_are_not_part_of_the_body(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", CHUNKED)
        wire.send(b'5;name=value;q="a b"\r\nhello\r\n0;last\r\n\r\n')
        assert wire.read_response().body == b"hello"


def test_trailers_of_the_request_are_not_part_of_the_body(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", (*CHUNKED, ("Trailer", "X-Sum")))
        wire.send(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert wire.read_response().body == b"hello"
        assert wire.get("/nothing").status == 200


def test_a_chunked_body_may_be_empty(server: Server) -> None:
    with server.connect() as wire:
        assert echo(wire) == b""


def test_a_get_has_one_empty_message(server: Server) -> None:
    messages = messages_for(server, b"GET /messages HTTP/1.1\r\nHost: a\r\n\r\n")
    assert messages == [{"type": "http.request", "body": b"", "more_body": False}]


def test_content_length_zero_has_one_empty_message(server: Server) -> None:
    request = b"POST /messages HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    messages = messages_for(server, request)
    assert messages == [{"type": "http.request", "body": b"", "more_body": False}]


def test_a_body_in_one_segment_needs_no_empty_last_message(server: Server) -> None:
    request = b"POST /messages HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    messages = messages_for(server, request)
    assert messages == [{"type": "http.request", "body": b"hello", "more_body": False}]


def test_every_message_holds_type_body_and_more_body(server: Server) -> None:
    body = bytes(500_000)
    request = b"POST /messages HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    for message in messages_for(server, request + body):
        kinds = {key: type(value) for key, value in message.items()}
        assert kinds == {"type": str, "body": bytes, "more_body": bool}


def test_more_body_is_false_only_in_the_last_message(server: Server) -> None:
    body = bytes(500_000)
    request = b"POST /messages HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    more = [message["more_body"] for message in messages_for(server, request + body)]
    assert more == [True] * (len(more) - 1) + [False]


def test_the_first_part_arrives_before_the_rest_is_sent(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.request(f"/first-message?{key}", "POST", (("Content-Length", "10"),))
        wire.send(b"hello")
        server.wait_for_journal(key, "hello")


def test_the_application_starts_before_the_body_comes(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.request(f"/expect?{key}", "POST", (("Content-Length", "5"),))
        server.wait_for_journal(key, "called")
        wire.send(b"hello")
        assert wire.read_response().body == b"hello"


def test_a_body_sent_byte_by_byte_arrives(server: Server) -> None:
    with server.connect() as wire:
        wire.send_bytewise(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        assert wire.read_response().body == b"hello"


def test_a_chunked_body_sent_byte_by_byte_arrives(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", CHUNKED)
        wire.send_bytewise(as_chunks(b"hello", b" world"))
        assert wire.read_response().body == b"hello world"


def test_httpx_generator_body_arrives(server: Server) -> None:
    with server.client() as client:
        response = client.post("/echo", content=(b"part %d;" % index for index in range(20)))
    assert response.content == b"".join(b"part %d;" % index for index in range(20))


# Disconnect


def test_receive_after_the_body_waits_for_the_disconnect(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.request(f"/after-body?{key}", "POST", body=b"hello")
        server.wait_for_journal(key, "waiting")
        assert server.journal(key) == ["waiting"]
    assert "http.disconnect" in server.wait_for_journal(key, "end")


def test_disconnect_is_reported_every_time_it_is_asked_for(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.request(f"/after-body?{key}")
        server.wait_for_journal(key, "waiting")
    journal = server.wait_for_journal(key, "end")
    assert journal == ["waiting", "http.disconnect", "http.disconnect", "end"]


def test_a_reset_is_a_disconnect(server: Server, key: str) -> None:
    wire = server.connect()
    wire.request(f"/after-body?{key}")
    server.wait_for_journal(key, "waiting")
    wire.reset()
    server.wait_for_journal(key, "http.disconnect")


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_leaving_in_mid_body_is_a_disconnect(server: Server, key: str, framing: str) -> None:
    with server.connect() as wire:
        wire.send(f"POST /mid-body?{key} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n5\r\n".encode())
        server.wait_for_journal(key, "called")
    server.wait_for_journal(key, "http.disconnect")


def test_receive_after_the_response_is_a_disconnect(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.get(f"/reads-after-answer?{key}")
        assert wire.get("/nothing").status == 200
        assert set(server.wait_for_journal(key, "http.disconnect")) == {"http.disconnect"}


def test_a_disconnect_reaches_a_task_beside_the_stream(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.request(f"/receive-while-sending?{key}")
        server.wait_for_journal(key, "started")
    server.wait_for_journal(key, "http.disconnect")


# Odd ways of awaiting


@pytest.mark.parametrize(
    "scenario",
    ["received-in-task", "received-by-wait-for", "received-by-wait", "gathered", "anyio"],
)
def test_receive_works_however_it_is_awaited(server: Server, scenario: str) -> None:
    with server.connect() as wire:
        wire.request(f"/{scenario}", "POST", body=b"hello")
        assert wire.read_response().body == b"hello"


@pytest.mark.parametrize(
    "scenario",
    ["received-in-task", "received-by-wait-for", "received-by-wait", "gathered", "anyio"],
)
def test_receive_works_however_it_is_awaited_when_the_body_comes_late(
    server: Server, scenario: str
) -> None:
    with server.connect() as wire:
        wire.request(f"/{scenario}", "POST", (("Content-Length", "5"),))
        assert server.get("/nothing").status_code == 200
        wire.send(b"hello")
        assert wire.read_response().body == b"hello"


@pytest.mark.parametrize(
    ("scenario", "body"),
    [("gathered-sends", b"ab"), ("sent-in-task", b"sent"), ("sent-by-wait-for", b"sent")],
)
def test_send_works_however_it_is_awaited(server: Server, scenario: str, body: bytes) -> None:
    with server.connect() as wire:
        assert wire.get(f"/{scenario}").body == body


def test_asyncio_takes_the_awaitable_for_a_coroutine(server: Server) -> None:
    assert server.get("/is-coroutine").json() is True


def test_an_abandoned_receive_loses_nothing(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/abandoned", "POST", body=b"hello")
        assert wire.read_response().body == b"hello"


def test_a_receive_cancelled_before_the_body_loses_nothing(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.request(f"/cancelled-receive?{key}", "POST", (("Content-Length", "5"),))
        assert server.wait_for_journal(key, "reading") == ["gave up"] * 3 + ["reading"]
        wire.send(b"hello")
        assert wire.read_response().body == b"hello"


def test_receives_cancelled_throughout_the_body_lose_nothing(server: Server, key: str) -> None:
    parts = [b"part %04d;" % index for index in range(200)]
    with server.connect() as wire:
        wire.request(f"/impatient?{key}", "POST", CHUNKED)
        server.wait_for_journal(key, "reading")
        for part in parts:
            wire.send(b"%x\r\n%b\r\n" % (len(part), part))
            wire.is_readable(within=0.004)
        wire.send(b"0\r\n\r\n")
        response = wire.read_response()
    assert response.body == b"".join(parts)


def test_two_tasks_may_receive_at_once(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.request(f"/two-receivers?{key}", "POST", (("Content-Length", "10"),))
        server.wait_for_journal(key, "waiting")
        wire.send(b"0123456789")
        assert wire.read_response().body == b"10"
    server.wait_for_journal(key, "both ended")


def test_bodies_of_every_shape_leave_the_connection_usable(server: Server) -> None:
    with server.connect() as wire:
        for parts in ([b"a"], [b"a" * 70_000], [], [b"\r\n0\r\n\r\n"], [b"x"] * 300):
            assert echo(wire, *parts) == b"".join(parts)
        assert wire.get("/nothing").status == 200
