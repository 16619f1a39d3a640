"""The tables of `docs/reference/signals-and-exit-codes.md`, row by row, with real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import flavour
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.waiting import eventually

APP = "tests.apps.stopping:app"
LONG = 30.0

pytestmark = [rsgi_only("has other signals and codes"), pytest.mark.timeout(120)]


# Signals to the supervisor


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_term_and_int_finish_what_runs(serve: Serve, number: signal.Signals) -> None:
    server = serve(APP, workers=2)
    with server.connect() as wire:
        wire.request("/second")
        server.wait_for_log("APP: started")
        server.signal(number)
        assert wire.read_response().body == b"finished"
    assert server.wait(LONG) == 0


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_stop_is_a_stop_at_once(serve: Serve, first: signal.Signals) -> None:
    server = serve(APP, "--timeout-graceful-shutdown", "1h", workers=2)
    with server.connect() as wire:
        wire.request("/stubborn")
        server.wait_for_log("APP: started")
        server.signal(first)
        server.wait_for_log("Waiting for connections to close")

        def is_forced() -> bool:
            # Within 0.2 s a second one is the first one again.
            server.signal(signal.SIGTERM)
            return "Forced to quit" in server.stderr()

        eventually(is_forced, "a forced stop", LONG)
        assert server.wait(LONG) == 0
    assert eventually(lambda: not server.survivors())


def test_quit_does_not_wait_for_requests(serve: Serve) -> None:
    server = serve(APP, "--timeout-graceful-shutdown", "1h", workers=2)
    with server.connect() as wire:
        wire.request("/hang")
        server.wait_for_log("APP: started")
        server.signal(signal.SIGQUIT)
        assert server.wait(LONG) == 0


def test_hup_replaces_all_workers(serve: Serve) -> None:
    server = serve(APP, workers=2)
    before = set(server.wait_for_workers(2))
    server.signal(signal.SIGHUP)
    server.wait_for_log("Reload complete", deadline=LONG)
    assert not before & set(server.wait_for_workers(2))


def test_ttin_and_ttou_add_and_take_away_one(serve: Serve) -> None:
    server = serve(APP)
    server.signal(signal.SIGTTIN)
    server.wait_for_workers(2)
    server.wait_for_log("Scaling to 2 workers")
    server.signal(signal.SIGTTOU)
    server.wait_for_workers(1)
    server.signal(signal.SIGTTOU)
    server.wait_for_log("Not scaling, 1 workers is the limit")
    assert server.get("/pid").status_code == 200


def test_winch_is_ignored(serve: Serve) -> None:
    server = serve(APP, "--log-level", "debug", workers=2)
    pids = server.wait_for_workers(2)
    server.signal(signal.SIGWINCH)
    server.wait_for_log("Ignoring SIGWINCH")
    server.signal_group(signal.SIGWINCH)
    assert server.get("/pid").status_code == 200
    assert server.worker_pids() == pids


def test_signals_to_the_group_that_are_meant_for_the_supervisor_do_not_hurt_workers(
    serve: Serve,
) -> None:
    server = serve(APP, "--log-level", "debug", workers=2)
    pids = server.wait_for_workers(2)
    for number in (signal.SIGUSR1, signal.SIGWINCH):
        server.signal_group(number)
    server.wait_for_log("Ignoring SIGWINCH")
    assert server.get("/pid").status_code == 200
    assert server.worker_pids() == pids


def test_timeout_of_coreutils_is_one_stop(serve: Serve) -> None:
    """`timeout` passes a signal on to its child and then to its whole group, like `tini -g`."""
    server = serve(APP, workers=2, prefix=("timeout", "1h"))
    server.signal(signal.SIGTERM)
    assert server.wait(LONG) == 0
    assert "Forced" not in server.stderr()
    assert eventually(lambda: not server.survivors())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_of_a_worker_alone_drains_and_replaces_it(
    serve: Serve, number: signal.Signals
) -> None:
    server = serve(APP, workers=2)
    with server.connect() as wire:
        victim = int(wire.get("/pid").body)
        wire.request("/second")
        server.wait_for_log("APP: started")
        os.kill(victim, number)
        assert wire.read_response().body == b"finished"
    server.wait_for_workers(2, without=victim)


# Exit codes


def status_of(*arguments: str, cwd: Path | None = None) -> tuple[int, str]:
    run = subprocess.run(
        flavour.command(*arguments),
        capture_output=True,
        text=True,
        timeout=LONG,
        cwd=cwd,
    )
    return run.returncode, run.stdout + run.stderr


def test_help_and_version_are_0() -> None:
    assert status_of("--help")[0] == 0
    assert status_of("--version")[0] == 0


@pytest.mark.parametrize("arguments", [[], ["m:a", "--workers", "x"], ["m:a", "--nonsense"]])
def test_wrong_settings_are_2(arguments: list[str]) -> None:
    status, text = status_of(*arguments)
    assert status == 2
    assert text.startswith("error: ")


@pytest.mark.parametrize(
    ("code", "target"),
    [
        ("app = None", "missing:app"),
        ("app = None", "broken:other"),
        ("raise RuntimeError", "broken:app"),
        ("def app(:", "broken:app"),
        ("import sys; sys.exit(0)", "broken:app"),
        ("async def app(scope, receive, send): raise RuntimeError", "broken:app"),
    ],
)
def test_an_application_that_does_not_start_is_3(tmp_path: Path, code: str, target: str) -> None:
    (tmp_path / "broken.py").write_text(code)
    flags = ("--lifespan", "on", "--port", "0", "--workers", "2")
    status, _ = status_of(target, *flags, cwd=tmp_path)
    assert status == 3


def test_a_port_in_use_is_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, text = status_of(APP, "--port", str(taken.getsockname()[1]))
    assert status == 3
    assert "address already in use" in text


def test_a_stop_that_had_to_kill_is_0(serve: Serve) -> None:
    server = serve(APP, "--timeout-graceful-shutdown", "0", workers=2)
    pids = server.worker_pids()
    os.kill(pids[0], signal.SIGSTOP)
    server.signal(signal.SIGTERM)
    assert server.wait(LONG) == 0
    assert f"[{pids[0]}] did not finish in time, killing it" in server.stderr()


# How fast a worker is replaced


def seconds_to_start(server: Server) -> float:
    """Kill one of four workers; return how long there were fewer than four."""
    victim = server.worker_pids()[0]
    complete = server.stderr().count("Application startup complete.")
    os.kill(victim, signal.SIGKILL)
    start = time.monotonic()
    eventually(
        lambda: server.stderr().count("Application startup complete.") > complete,
        "four workers",
        LONG,
    )
    return time.monotonic() - start


def test_a_killed_worker_is_back_soon(serve: Serve) -> None:
    """The bar is the application's own start and 150 ms on a machine with nothing else to do."""
    code = "from time import *; t = monotonic(); import tests.apps.stopping; print(monotonic() - t)"
    run = subprocess.run(
        [*flavour.command()[:1], "-c", code], capture_output=True, text=True, check=True
    )
    own = float(run.stdout)
    server = serve(APP, workers=4)
    times = []
    for _ in range(3):
        times.append(seconds_to_start(server))
        server.wait_for_workers(4)
    shown = ", ".join(f"{seconds * 1e3:.0f}" for seconds in times)
    print(f"the application starts in {own * 1e3:.0f} ms, four were ready after {shown} ms")  # noqa: T201
    assert min(times) < own + 5
