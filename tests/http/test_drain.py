"""TERM: requests in flight finish, idle connections close, the deadline holds, the status is 0."""

from __future__ import annotations

import signal
import time

import pytest

from tests.conftest import Serve
from tests.support.flavour import clean_exit_after_term, rsgi_only
from tests.support.server import Server
from tests.support.waiting import eventually
from tests.support.wire import Cut, Wire, seconds_since

APP = "tests.apps.stopping:app"
DEADLINE = ("--timeout-graceful-shutdown", "1")
STOPS = [signal.SIGTERM, signal.SIGINT]


def in_flight(server: Server, target: str) -> Wire:
    """Open a connection whose request has reached the application."""
    wire = server.connect()
    wire.request(target)
    server.wait_for_log("APP: started")
    return wire


def clean(number: signal.Signals) -> int:
    return 0 if number is signal.SIGINT else clean_exit_after_term(1)


@pytest.mark.parametrize("number", STOPS)
def test_an_idle_server_stops_at_once(serve: Serve, number: signal.Signals) -> None:
    server = serve(APP)
    start = time.monotonic()
    server.signal(number)
    assert server.wait() == clean(number)
    assert seconds_since(start) < 3


@pytest.mark.parametrize("number", STOPS)
def test_a_request_in_flight_finishes(serve: Serve, number: signal.Signals) -> None:
    server = serve(APP)
    with in_flight(server, "/second") as wire:
        server.signal(number)
        assert wire.read_response().body == b"finished"
    assert server.wait() == clean(number)


def test_a_stream_in_flight_finishes(serve: Serve) -> None:
    server = serve(APP)
    with server.connect() as wire:
        wire.request("/streamed-second")
        wire.read_head()
        assert wire.read_chunk() == b"first;"
        server.signal(signal.SIGTERM)
        assert [wire.read_chunk() for _ in range(2)] == [b"last", b""]


def test_the_last_response_says_connection_close(serve: Serve) -> None:
    server = serve(APP)
    with in_flight(server, "/second") as wire:
        server.signal(signal.SIGTERM)
        assert wire.read_response().value(b"connection") == b"close"


def test_the_connection_ends_after_the_last_response(serve: Serve) -> None:
    server = serve(APP)
    with in_flight(server, "/second") as wire:
        server.signal(signal.SIGTERM)
        wire.read_response()
        wire.assert_closed()


def test_idle_connections_are_closed(serve: Serve) -> None:
    server = serve(APP)
    with server.connect() as idle, server.connect() as silent:
        idle.get("/pid")
        server.signal(signal.SIGTERM)
        idle.assert_closed()
        silent.assert_closed()
        server.wait()


def test_an_idle_connection_closes_while_another_request_runs(serve: Serve) -> None:
    server = serve(APP)
    with server.connect() as idle:
        idle.get("/pid")
        with in_flight(server, "/hang") as busy:
            server.signal(signal.SIGTERM)
            idle.assert_closed()
            assert not busy.is_readable(0)


def test_new_connections_are_refused_while_draining(serve: Serve) -> None:
    server = serve(APP)
    with in_flight(server, "/second") as wire:
        server.signal(signal.SIGTERM)

        def is_refused() -> bool:
            try:
                server.connect().close()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:  # it was still in the queue when the listener closed
                return False
            return False

        assert eventually(is_refused, "refusal", deadline=0.9)
        assert wire.read_response().body == b"finished"


def test_a_request_past_the_deadline_is_cancelled(serve: Serve) -> None:
    server = serve(APP, *DEADLINE, allow_tracebacks=True)
    with in_flight(server, "/hang"):
        server.signal(signal.SIGTERM)
        server.wait_for_log("APP: cancelled")
        server.wait()


def test_a_request_past_the_deadline_is_cut(serve: Serve) -> None:
    server = serve(APP, *DEADLINE, allow_tracebacks=True)
    with in_flight(server, "/hang") as wire:
        server.signal(signal.SIGTERM)
        start = time.monotonic()
        try:
            response = wire.read_response()
        except Cut:
            pass
        else:
            assert response.status >= 500
        assert 0.8 < seconds_since(start) < 5


def test_the_exit_status_past_the_deadline_is_clean(serve: Serve) -> None:
    server = serve(APP, *DEADLINE, allow_tracebacks=True)
    with in_flight(server, "/hang"):
        assert server.stop() == clean_exit_after_term(1)


def test_an_event_stream_ends_at_the_deadline(serve: Serve) -> None:
    server = serve(APP, *DEADLINE, allow_tracebacks=True)
    with server.connect() as wire:
        wire.request("/sse")
        wire.read_head()
        wire.read_chunk()
        server.signal(signal.SIGTERM)
        wire.read_to_end()
        server.wait_for_log("APP: stream (cancelled|disconnected)")
        assert server.wait() == clean_exit_after_term(1)


@rsgi_only("waits for ever")
def test_a_task_that_ignores_its_cancellation_does_not_hold_the_server(serve: Serve) -> None:
    server = serve(APP, *DEADLINE, allow_tracebacks=True)
    with in_flight(server, "/stubborn"):
        server.signal(signal.SIGTERM)
        server.wait(deadline=15)


@pytest.mark.parametrize("number", STOPS)
def test_a_second_signal_stops_at_once(serve: Serve, number: signal.Signals) -> None:
    server = serve(APP, allow_tracebacks=True)
    with in_flight(server, "/hang"):
        server.signal(number)
        server.wait_for_log("Shutting down")
        # Sooner, it is the same stop as the first: `timeout` signals the process, then its group.
        time.sleep(0.25)
        start = time.monotonic()
        server.signal(signal.SIGINT)
        server.wait()
        assert seconds_since(start) < 3


def test_the_log_tells_the_known_story(serve: Serve) -> None:
    server = serve(APP)
    server.stop()
    story = [
        r"Started server process \[\d+\]",
        "Waiting for application startup",
        "Application startup complete",
        "Shutting down",
        "Waiting for application shutdown",
        "Application shutdown complete",
        r"Finished server process \[\d+\]",
    ]
    position = 0
    for line in story:
        server.wait_for_log(rf"INFO:\s+{line}", since=position)
        position = server.stderr().index(server.wait_for_log(line, since=position), position)


def test_nothing_is_left_running(serve: Serve) -> None:
    server = serve(APP)
    server.stop()
    assert eventually(lambda: not server.survivors())
