"""`--on-start`: a function that runs once, before any worker, in a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.flavour import IS_RSGI
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(not IS_RSGI, reason="only rsgi has --on-start")

# A loaded machine starts an interpreter in seconds.
PATIENCE = 30.0

SOURCE = """
import asyncio, os, sys, time

def say(text):
    sys.stderr.write(f"APP: {text}\\n")
    sys.stderr.flush()

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})

def migrate():
    say(f"migrated in {os.getpid()}")
    print("on standard output")

async def migrate_async():
    await asyncio.sleep(0)
    say(f"migrated in {os.getpid()}")
    print("on standard output")

def raising():
    raise ValueError("no database")

async def raising_async():
    raise ValueError("no database")

def exiting():
    sys.exit(4)

def exiting_well():
    say("migrated in no time")
    print("on standard output")
    sys.exit()

def crashing():
    os._exit(5)

def hanging():
    try:
        say("hanging")
        time.sleep(1000)
    finally:
        say("rolled back")

async def hanging_async():
    try:
        say("hanging")
        await asyncio.sleep(1000)
    finally:
        say("rolled back")
"""


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "starting.py").write_text(SOURCE)
    return {"cwd": tmp_path, "allow_tracebacks": True}


def failed(serve: Serve, function: str, options: dict[str, Any], *flags: str) -> Server:
    server = serve(
        "starting:app", "--on-start", f"starting:{function}", *flags, ready=False, **options
    )
    assert server.wait(PATIENCE) == 3
    assert "Started worker" not in server.stderr()
    assert eventually(lambda: not server.survivors())
    return server


@pytest.mark.parametrize("function", ["migrate", "migrate_async", "exiting_well"])
def test_it_runs_once_before_any_worker(
    serve: Serve, options: dict[str, Any], function: str
) -> None:
    server = serve("starting:app", "--on-start", f"starting:{function}", workers=2, **options)
    assert server.get().text == "served"
    log = server.stderr()
    assert log.count("APP: migrated") == 1
    assert log.index("APP: migrated") < log.index("Started worker")
    assert server.stdout().count("on standard output") == 1


def test_it_has_a_process_of_its_own(serve: Serve, options: dict[str, Any]) -> None:
    server = serve("starting:app", "--on-start", "starting:migrate", **options)
    pid = int(server.wait_for_log(r"(?<=migrated in )\d+"))
    assert pid not in {server.pid, *server.worker_pids()}


def test_it_does_not_run_again(serve: Serve, options: dict[str, Any]) -> None:
    server = serve("starting:app", "--on-start", "starting:migrate", **options)
    (first,) = server.worker_pids()
    server.signal(signal.SIGHUP)
    server.wait_for_log("Reload complete", deadline=PATIENCE)
    (second,) = server.wait_for_workers(1, without=first)
    subprocess.run(["kill", "-KILL", str(second)], check=True)
    server.wait_for_workers(1, without=second)
    server.wait_for_log(r"(appears unsupported[\s\S]*){3}")
    assert server.stderr().count("APP: migrated") == 1


@pytest.mark.parametrize("function", ["raising", "raising_async"])
def test_an_exception_ends_the_server_with_its_traceback_last(
    serve: Serve, options: dict[str, Any], function: str
) -> None:
    server = failed(serve, function, options)
    lines = server.stderr().splitlines()
    assert "ERROR:    starting:" in server.stderr()
    assert lines[-2] == "ValueError: no database"
    assert "INFO:     Stopped parent process" in lines[-1]
    traceback = server.stderr().partition("Traceback")[2]
    assert f"in {function}" in traceback
    assert "_on_start.py" not in traceback
    assert "asyncio" not in traceback


def test_a_status_that_is_not_0_ends_the_server(serve: Serve, options: dict[str, Any]) -> None:
    assert "sys.exit(4)" in failed(serve, "exiting", options).stderr()
    assert "exited with code 5" in failed(serve, "crashing", options).stderr()


def test_a_function_that_does_not_exist_ends_the_server(
    serve: Serve, options: dict[str, Any]
) -> None:
    log = failed(serve, "migrat", options).stderr()
    assert "no attribute `migrat`; did you mean `migrate`?" in log


def test_it_has_a_time_limit(serve: Serve, options: dict[str, Any]) -> None:
    log = failed(serve, "hanging", options, "--timeout-worker-startup", "2").stderr()
    assert re.search(r"starting:hanging did not finish within 2 s \(--timeout-worker", log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("function", ["hanging", "hanging_async"])
def test_a_stop_ends_it_in_order(
    serve: Serve, options: dict[str, Any], function: str, number: signal.Signals
) -> None:
    server = serve("starting:app", "--on-start", f"starting:{function}", ready=False, **options)
    server.wait_for_log("APP: hanging", deadline=PATIENCE)
    server.signal_group(number)
    assert server.wait(PATIENCE) == 0
    assert "APP: rolled back" in server.stderr()
    assert "Started worker" not in server.stderr()
    assert eventually(lambda: not server.survivors())


def test_run_in_this_process_does_it_too(tmp_path: Path, options: dict[str, Any]) -> None:
    program = 'import rsgi; rsgi.run("starting:app", port=0, on_start="starting:raising")'
    environment = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 3
    assert "ERROR:    starting:raising failed" in done.stderr
    assert "ValueError: no database" in done.stderr
