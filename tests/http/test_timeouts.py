"""Slow and silent clients are let go in time: here after a second, with slack."""

from __future__ import annotations

import threading
import time

import pytest

from tests.conftest import Serve, Shared
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.wire import Wire, seconds_since

SLACK = 4.0
KEEP_ALIVE = ("--timeout-keep-alive", "1")
REQUEST_HEADER = ("--timeout-request-header", "1")


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared("tests.apps.receiving:app", *KEEP_ALIVE, *REQUEST_HEADER)


def assert_closed_after_a_second(wire: Wire, start: float) -> None:
    wire.assert_closed(within=1 + SLACK)
    assert seconds_since(start) > 0.8


def test_an_idle_connection_is_closed(shared: Shared) -> None:
    with shared("tests.apps.receiving:app", *KEEP_ALIVE).connect() as wire:
        wire.get("/nothing")
        assert_closed_after_a_second(wire, time.monotonic())


def test_a_connection_in_use_is_not_closed(shared: Shared) -> None:
    with shared("tests.apps.receiving:app", *KEEP_ALIVE).connect() as wire:
        start = time.monotonic()
        while seconds_since(start) < 2:
            assert wire.get("/nothing").status == 200
            assert not wire.is_readable(within=0.4)


def test_a_long_request_is_not_idle(shared: Shared, key: str) -> None:
    with shared("tests.apps.receiving:app", *KEEP_ALIVE).connect() as wire:
        wire.request(f"/never-reads?{key}")
        assert not wire.is_readable(within=2)


def test_a_slow_request_head_is_408(server: Server) -> None:
    with server.connect() as wire:
        wire.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        assert wire.read_response().status == 408


def test_408_ends_the_connection(server: Server) -> None:
    with server.connect() as wire:
        wire.send(b"GET /nothing HTTP/1.1\r\n")
        assert wire.read_response().value(b"connection") == b"close"
        wire.assert_closed()


def test_a_head_that_trickles_is_408_all_the_same(server: Server) -> None:
    """A byte now and then must not move the deadline."""
    with server.connect() as wire:
        start = time.monotonic()
        wire.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\nX: ")
        while not wire.is_readable(within=0.2):
            wire.send_as_far_as_accepted(b"x")
            assert seconds_since(start) < 1 + SLACK
        assert wire.read_response().status == 408


def test_a_slow_second_head_is_408(server: Server) -> None:
    with server.connect() as wire:
        wire.get("/nothing")
        wire.send(b"GET /nothing HTT")
        assert wire.read_response().status == 408


@rsgi_only("waits for ever")
def test_a_connection_without_a_first_byte_is_closed(server: Server) -> None:
    with server.connect() as wire:
        wire.assert_closed(within=1 + SLACK)


def test_a_slow_body_is_not_a_slow_head(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", (("Content-Length", "5"),))
        wire.send(b"hel")
        assert not wire.is_readable(within=1.5)
        wire.send(b"lo")
        assert wire.read_response().body == b"hello"


def test_three_hundred_silent_clients_do_not_delay_a_request(serve: Serve) -> None:
    server = serve("tests.apps.receiving:app", *REQUEST_HEADER)
    wires = [server.connect() for _ in range(300)]
    try:
        for wire in wires[::2]:
            wire.send(b"GET / HTTP/1.1\r\nX: ")
        start = time.monotonic()
        assert server.get("/nothing").status_code == 200
        assert seconds_since(start) < 2
    finally:
        for wire in wires:
            wire.close()


def test_idle_connections_close_without_traffic_elsewhere(server: Server) -> None:
    """Every connection has its own deadline; no other request is needed to notice it."""
    closed = []

    def watch() -> None:
        with server.connect() as wire:
            wire.get("/nothing")
            wire.assert_closed(within=1 + SLACK)
            closed.append(True)

    threads = [threading.Thread(target=watch) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(closed) == 10
