"""The phases of a stop: announce, close, let streams end, cancel, leave in any case."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.waiting import eventually
from tests.support.wire import Wire, seconds_since

APP = "tests.apps.leaving:app"
# A limit that no test waits for: what ends earlier did so by itself.
NEVER = ("--timeout-graceful-shutdown", "600")
DELAYED = ("--shutdown-delay", "600")

pytestmark = rsgi_only("has one phase")


def begin(server: Server, target: str) -> Wire:
    """Start a response and read its first part."""
    wire = server.connect()
    wire.request(target)
    wire.read_head()
    wire.read_chunk()
    return wire


# The announcement


def stop_with_delay(server: Server) -> None:
    """Begin a stop whose delay the test does not wait for."""
    server.signal(signal.SIGTERM)
    server.wait_for_log("Accepting connections for another 600 s")

    def is_announced() -> bool:
        with server.connect() as wire:
            return wire.get("/pid").value(b"connection") == b"close"

    # Each worker hears of it in its own time.
    eventually(lambda: all(is_announced() for _ in range(8)), "announcement")


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_are_served_during_the_delay(serve: Serve, workers: int) -> None:
    server = serve(APP, *DELAYED, workers=workers)
    stop_with_delay(server)
    for _ in range(10):
        with server.connect() as wire:
            response = wire.get("/pid")
            assert (response.status, response.value(b"connection")) == (200, b"close")
            wire.assert_closed()


def test_an_idle_connection_is_kept_for_one_more_response(serve: Serve) -> None:
    server = serve(APP, *DELAYED, "--timeout-keep-alive", "600")
    with server.connect() as wire:
        assert wire.get("/pid").value(b"connection") is None
        stop_with_delay(server)
        assert wire.get("/pid").value(b"connection") == b"close"
        wire.assert_closed()


def test_the_server_ends_behind_the_delay(serve: Serve) -> None:
    server = serve(APP, "--shutdown-delay", "1")
    with server.connect() as idle:
        idle.get("/pid")
        start = time.monotonic()
        server.signal(signal.SIGTERM)
        idle.assert_closed()
        assert server.wait() == 0
        assert seconds_since(start) >= 1


def test_a_second_signal_during_the_delay_forces(serve: Serve) -> None:
    server = serve(APP, *DELAYED, workers=2)
    stop_with_delay(server)
    # Sooner, it is the same stop as the first: `timeout` signals the process, then its group.
    time.sleep(0.25)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert eventually(lambda: not server.survivors())


def test_a_signal_to_the_whole_group_has_the_delay_as_well(serve: Serve) -> None:
    server = serve(APP, *DELAYED)
    server.signal_group(signal.SIGTERM)
    server.wait_for_log("Shutting down\n")
    server.wait_for_log("Accepting connections for another 600 s")
    with server.connect() as wire:
        assert wire.get("/pid").value(b"connection") == b"close"


def test_a_worker_that_is_replaced_does_not_wait_for_the_delay(serve: Serve) -> None:
    server = serve(APP, *DELAYED)
    (old,) = server.worker_pids()
    server.signal(signal.SIGHUP)
    server.wait_for_workers(1, without=old)


# Streams


def test_a_stream_that_listens_ends_by_itself(serve: Serve) -> None:
    server = serve(APP, *NEVER, "--timeout-stream-shutdown", "1", workers=2)
    wires = [begin(server, "/events") for _ in range(4)]
    start = time.monotonic()
    server.signal(signal.SIGTERM)
    rests = [(wire.read_chunk(), wire.read_chunk()) for wire in wires]
    assert rests == [(b"event: goodbye\n\n", b"")] * 4
    assert seconds_since(start) >= 1
    assert server.wait() == 0


def test_a_stream_that_just_returns_when_told_is_no_mistake(serve: Serve) -> None:
    server = serve(APP, *NEVER, "--timeout-stream-shutdown", "0")
    wire = begin(server, "/leaves")
    server.signal(signal.SIGTERM)
    assert wire.read_to_end() == b""
    assert server.wait() == 0
    assert "without completing" not in server.stderr()


def test_a_stream_has_a_third_of_the_time_unless_it_is_set(serve: Serve) -> None:
    server = serve(APP, "--timeout-graceful-shutdown", "60")
    wire = begin(server, "/two-seconds")
    server.signal(signal.SIGTERM)
    assert [wire.read_chunk(), wire.read_chunk()] == [b"ended", b""]
    assert server.wait() == 0


def test_a_stream_that_does_not_listen_is_cancelled_at_the_limit(serve: Serve) -> None:
    flags = ("--timeout-graceful-shutdown", "2", "--timeout-stream-shutdown", "0")
    server = serve(APP, *flags, allow_tracebacks=True)
    begin(server, "/deaf")
    start = time.monotonic()
    server.signal(signal.SIGTERM)
    server.wait_for_log("APP: cancelled")
    assert seconds_since(start) >= 2
    assert server.wait() == 0


def test_a_stream_of_a_replaced_worker_is_told_as_well(serve: Serve) -> None:
    server = serve(APP, *NEVER, "--timeout-stream-shutdown", "0")
    (old,) = server.worker_pids()
    wire = begin(server, "/events")
    server.signal(signal.SIGHUP)
    assert wire.read_chunk() == b"event: goodbye\n\n"
    server.wait_for_workers(1, without=old)


# Leaving


def assert_workers_left_by_themselves(server: Server) -> None:
    """Check that no worker had to be killed."""
    assert server.wait(deadline=30) == 0
    assert "killing it" not in server.stderr()
    assert eventually(lambda: not server.survivors())


def test_a_call_that_hangs_in_the_thread_pool_is_left_behind(serve: Serve) -> None:
    server = serve(APP, "--timeout-graceful-shutdown", "1", allow_tracebacks=True)
    server.connect().request("/pool")
    server.wait_for_log("APP: started")
    server.signal(signal.SIGTERM)
    assert_workers_left_by_themselves(server)


@pytest.mark.parametrize("path", ["/thread", "/generator"])
def test_what_the_application_leaves_behind_does_not_hold_the_process(
    serve: Serve, path: str
) -> None:
    server = serve(APP, *NEVER)
    assert server.get(path).status_code == 200
    server.signal(signal.SIGTERM)
    assert_workers_left_by_themselves(server)


def test_a_lifespan_that_never_stops_does_not_hold_the_process(serve: Serve) -> None:
    flags = ("--timeout-graceful-shutdown", "1")
    server = serve("tests.apps.leaving:never_stopping", *flags, allow_tracebacks=True)
    server.signal(signal.SIGTERM)
    server.wait_for_log("APP: stopping")
    assert_workers_left_by_themselves(server)
    assert "Application shutdown took too long" in server.stderr()


# One worker's long end and another's need


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTTOU])
def test_a_worker_is_replaced_while_another_one_drains(
    serve: Serve, number: signal.Signals
) -> None:
    server = serve(APP, *NEVER, "--timeout-stream-shutdown", "none", workers=2)
    # In the order of their numbers: a reload begins with the first, scaling down takes the last.
    pids = [int(pid) for pid in re.findall(r"Started worker \[(\d+)\]", server.stderr())]
    draining, victim = pids if number is signal.SIGHUP else reversed(pids)
    streams: list[Stream] = []
    while not any(stream.pid == draining for stream in streams):
        streams.append(Stream(server))
    server.signal(number)
    server.wait_for_log("Shutting down")
    before = server.mark()
    os.kill(victim, signal.SIGKILL)
    server.wait_for_log("Application startup complete", since=before)
    server.wait_for_workers(3 if number is signal.SIGHUP else 2, without=victim)
    assert draining in server.worker_pids()


class Stream:
    """A response of `/events` that has begun."""

    def __init__(self, server: Server) -> None:
        """Read what it begins with: the worker's process."""
        self.wire = server.connect()
        self.wire.request("/events")
        self.wire.read_head()
        self.pid = int(self.wire.read_chunk().split()[1])
