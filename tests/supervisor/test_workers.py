"""Several workers: one that dies is replaced, the others do not notice, stopping loses nothing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from tests.conftest import Serve
from tests.support.flavour import clean_exit_after_term, rsgi_only, varies_on_uvicorn
from tests.support.server import Server
from tests.support.waiting import eventually
from tests.support.wire import Wire, seconds_since

APP = "tests.apps.stopping:app"


def pid_of(wire: Wire) -> int:
    return int(wire.get("/pid").body)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_workers_asked_for_are_started(serve: Serve, count: int) -> None:
    server = serve(APP, workers=count)
    assert len(server.wait_for_workers(count)) == count


@rsgi_only("serves in the main process")
def test_one_worker_is_supervised_too(serve: Serve) -> None:
    server = serve(APP)
    assert server.worker_pids() != [server.pid]


def test_requests_are_answered_by_workers(serve: Serve) -> None:
    server = serve(APP, workers=2)
    with server.connect() as wire:
        assert pid_of(wire) in server.worker_pids()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_worker_is_replaced(serve: Serve, number: signal.Signals) -> None:
    server = serve(APP, workers=2, allow_tracebacks=True)
    victim = server.worker_pids()[0]
    os.kill(victim, number)
    server.wait_for_workers(2, without=victim)


@rsgi_only("ends with its only worker")
def test_the_only_worker_is_replaced(serve: Serve) -> None:
    server = serve(APP)
    (victim,) = server.worker_pids()
    os.kill(victim, signal.SIGKILL)
    server.wait_for_workers(1, without=victim)
    assert server.get("/pid").text != str(victim)


def test_a_killed_worker_is_logged_with_its_pid(serve: Serve) -> None:
    server = serve(APP, workers=2)
    victim = server.worker_pids()[0]
    since = server.mark()
    os.kill(victim, signal.SIGKILL)
    server.wait_for_log(rf"\[{victim}\]", since)


def test_the_other_workers_do_not_notice(serve: Serve) -> None:
    server = serve(APP, workers=2)
    with server.connect() as wire:
        survivor = pid_of(wire)
        (victim,) = [pid for pid in server.worker_pids() if pid != survivor]
        os.kill(victim, signal.SIGKILL)
        server.wait_for_workers(2, without=victim)
        assert pid_of(wire) == survivor


def test_a_request_in_flight_elsewhere_finishes(serve: Serve) -> None:
    server = serve(APP, workers=2)
    with server.connect() as wire:
        survivor = pid_of(wire)
        wire.request("/second")
        server.wait_for_log("APP: started")
        for pid in server.worker_pids():
            if pid != survivor:
                os.kill(pid, signal.SIGKILL)
        assert wire.read_response().body == b"finished"


@varies_on_uvicorn("shares the socket too, but its replacement comes late")
def test_connections_waiting_while_a_worker_dies_are_served(serve: Serve) -> None:
    """The listening socket belongs to the supervisor: its queue survives every worker."""
    server = serve(APP)
    (victim,) = server.worker_pids()
    os.kill(victim, signal.SIGSTOP)
    with server.connect() as wire:
        wire.request("/pid")
        os.kill(victim, signal.SIGKILL)
        assert int(wire.read_response().body) != victim


# Stopping


def streams(server: Server, count: int) -> list[Wire]:
    wires = []
    for _ in range(count):
        wire = server.connect()
        wire.request("/streamed-second")
        wire.read_head()
        assert wire.read_chunk() == b"first;"
        wires.append(wire)
    return wires


def test_term_under_load_loses_no_request(serve: Serve) -> None:
    server = serve(APP, workers=2)
    wires = streams(server, 32)
    server.signal(signal.SIGTERM)
    rests = [(wire.read_chunk(), wire.read_chunk()) for wire in wires]
    assert rests == [(b"last", b"")] * 32
    assert server.wait() == 0


def test_ctrl_c_to_the_whole_group_loses_no_request(serve: Serve) -> None:
    """A terminal signals every process of the group, not only the supervisor."""
    server = serve(APP, workers=2)
    wires = streams(server, 8)
    server.signal_group(signal.SIGINT)
    rests = [(wire.read_chunk(), wire.read_chunk()) for wire in wires]
    assert rests == [(b"last", b"")] * 8
    assert server.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_to_the_whole_group_is_a_clean_stop(
    serve: Serve, number: signal.Signals, workers: int
) -> None:
    server = serve(APP, workers=workers)
    server.signal_group(number)
    status = clean_exit_after_term(workers) if number is signal.SIGTERM else 0
    assert server.wait() == status
    assert "Traceback" not in server.stderr()


@pytest.mark.parametrize("workers", [1, 4])
def test_stopping_leaves_nothing_running(serve: Serve, workers: int) -> None:
    server = serve(APP, workers=workers)
    assert server.stop() == clean_exit_after_term(workers)
    assert eventually(lambda: not server.survivors())


@rsgi_only("leaves its workers behind")
def test_workers_end_when_the_supervisor_is_killed(serve: Serve) -> None:
    server = serve(APP, workers=2)
    server.signal(signal.SIGKILL)
    server.wait()
    assert eventually(lambda: not server.survivors())


@rsgi_only("starts its workers in another way")
@pytest.mark.parametrize("role", ["", "spare", "on_start"])
def test_a_worker_that_is_not_wanted_any_more_ends_without_a_word(role: str) -> None:
    """The supervisor has gone, or stops, before it has said what to serve."""
    from rsgi._command import worker_command

    supervisor, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    supervisor.close()
    scoreboard = os.memfd_create("scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(scoreboard, 4096)
    fcntl.fcntl(scoreboard, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    numbers = {"scoreboard": scoreboard, "control": control.fileno()}
    passed = json.dumps({"listeners": [], "slot": 0, "index": 0, "slots": 1, **numbers})
    ran = subprocess.run(
        worker_command(),
        env={**os.environ, "RSGI_WORKER": passed, "RSGI_ROLE": role},
        pass_fds=tuple(numbers.values()),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    control.close()
    os.close(scoreboard)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@rsgi_only("waits for it without limit")
def test_a_stopped_worker_does_not_hold_the_stop_for_ever(serve: Serve) -> None:
    server = serve(APP, "--timeout-graceful-shutdown", "1", workers=2, allow_tracebacks=True)
    victim = server.worker_pids()[0]
    os.kill(victim, signal.SIGSTOP)
    start = time.monotonic()
    server.signal(signal.SIGTERM)
    server.wait(deadline=20)
    assert seconds_since(start) < 15
    assert eventually(lambda: not server.survivors())


@rsgi_only("starts them again without limit")
def test_a_crash_loop_ends_with_status_1(serve: Serve) -> None:
    server = serve(APP, workers=2, allow_tracebacks=True)
    limit = time.monotonic() + 45
    while server.is_running() and time.monotonic() < limit:
        for pid in server.worker_pids():
            with contextlib.suppress(ProcessLookupError):  # the supervisor may have been quicker
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: server.worker_pids() or not server.is_running(), deadline=45)
    assert server.wait(deadline=1) == 1


@rsgi_only("replaces nothing: it stops")
def test_max_requests_replaces_the_worker_without_losing_one(serve: Serve) -> None:
    server = serve(APP, "--limit-max-requests", "20", workers=2)
    pids = {server.get("/pid").text for _ in range(100)}
    assert len(pids) > 2


@varies_on_uvicorn("now and then loses one when a worker leaves")
def test_hup_replaces_every_worker_without_losing_a_request(serve: Serve) -> None:
    server = serve(APP, workers=2)
    before = server.worker_pids()
    failures: list[str] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            try:
                if server.get("/pid").status_code != 200:
                    failures.append("status")
            except Exception as error:  # noqa: BLE001, RUF100 (whatever it is, it is a loss)
                failures.append(repr(error))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        server.signal(signal.SIGHUP)
        eventually(
            lambda: len(server.worker_pids()) == 2 and not set(before) & set(server.worker_pids()),
            "two new workers",
            deadline=20,
        )
    finally:
        done.set()
        asking.join()
    assert failures == []
