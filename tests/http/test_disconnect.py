"""After the client has gone: `send()` raises an OSError (ASGI HTTP 2.4), and the server goes on."""

from __future__ import annotations

import pytest

from tests.conftest import Shared
from tests.support.flavour import rsgi_only
from tests.support.server import Server

LEAVING = ["close", "reset"]


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared("tests.apps.sending:app")


@pytest.mark.parametrize("way", LEAVING)
@rsgi_only("stays silent")
def test_send_after_the_disconnect_raises_an_os_error(server: Server, key: str, way: str) -> None:
    wire = server.connect()
    wire.request(f"/send-after-disconnect?{key}")
    server.wait_for_journal(key, "started")
    getattr(wire, way)()
    server.wait_for_journal(key, "disconnected")
    server.wait_for_journal(key, "OSError")


@pytest.mark.parametrize("way", LEAVING)
@rsgi_only("stays silent")
def test_start_after_the_disconnect_raises_an_os_error(server: Server, key: str, way: str) -> None:
    wire = server.connect()
    wire.request(f"/start-after-disconnect?{key}")
    server.wait_for_journal(key, "called")
    getattr(wire, way)()
    server.wait_for_journal(key, "OSError")


@rsgi_only("stays silent")
def test_a_stream_ends_when_its_client_leaves(server: Server, key: str) -> None:
    """The error may leave the application: a client that goes away is no traceback in the log."""
    with server.connect() as wire:
        wire.request(f"/uncaught-disconnect?{key}")
        server.wait_for_journal(key, "started")
    server.wait_for_journal(key, "left")


def test_other_requests_go_on_after_many_resets(server: Server, key: str) -> None:
    for _ in range(50):
        wire = server.connect()
        wire.request(f"/stalled?{key}")
        wire.reset()
    assert server.get("/length").text == "hello"


def test_leaving_before_a_byte_is_sent_is_not_logged(server: Server) -> None:
    since = server.mark()
    for _ in range(5):
        server.connect().close()
    assert server.get("/length").text == "hello"
    assert server.stderr()[since:] == ""


def test_half_closing_after_the_request_still_gets_the_response(server: Server) -> None:
    """A client may say that it has no more to send (RFC 9112, 9.6); `nc -N` and some proxies do."""
    with server.connect() as wire:
        wire.request("/length")
        wire.finish_sending()
        assert wire.read_response().body == b"hello"
