"""A blocked event loop is explained, and a worker that stays blocked is replaced."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import Serve
from tests.support.flavour import IS_RSGI
from tests.support.server import Server
from tests.support.waiting import eventually
from tests.support.wire import Wire

pytestmark = pytest.mark.skipif(not IS_RSGI, reason="no other server explains a blocked loop")

APP = "tests.apps.blocking:app"
BLOCKED = "The event loop has been blocked for"
RECOVERED = "The event loop moves again"
# Far more than any of it takes; a loaded machine needs it.
PATIENCE = 30.0


def line_of(text: str) -> int:
    """Return the number of the application's only line that is `text`."""
    lines = Path("tests/apps/blocking.py").read_text().splitlines()
    (number,) = [n for n, line in enumerate(lines, 1) if line.strip() == text]
    return number


def ask(server: Server, target: str) -> Wire:
    """Send a request and do not wait for its answer."""
    wire = server.connect(timeout=PATIENCE)
    wire.request(target)
    return wire


def report(server: Server, pattern: str, since: int = 0) -> str:
    """Wait for a log message that matches; return it with the lines that belong to it."""

    def probe() -> str:
        messages = re.split(r"\n(?=\S)", server.stderr()[since:])
        complete = messages[:-1] if not server.stderr().endswith("\n") else messages
        return next((message for message in complete if re.search(pattern, message)), "")

    return eventually(probe, f"a report with {pattern!r}", PATIENCE)


def let_pass(seconds: float) -> None:
    """Wait for nothing but time: where nothing may happen in it."""
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end)


def signal_worker(server: Server, number: signal.Signals) -> int:
    (pid,) = server.worker_pids()
    os.kill(pid, number)
    return pid


# The warning


def test_a_blocking_call_is_named_with_its_request(serve: Serve) -> None:
    server = serve(APP)
    start = time.monotonic()
    wire = ask(server, "/sleep?5")
    text = report(server, BLOCKED)
    seconds = time.monotonic() - start
    print(f"told after {seconds:.2f} s")  # noqa: T201 (a bar: 1.5 s on a quiet machine)
    assert seconds < 4.5, "told while it is blocked"
    number = line_of("time.sleep(seconds(scope))  # noqa: ASYNC251 (in the first step)")
    place = rf'blocking.py", line {number}, in sleep'
    assert re.search(rf"blocked for \d+\.\d s: File .*{place}\n", text), text
    assert re.search(rf"\n  > File .*{place}\n", text), text
    assert re.search(r"\n  1 request in flight:\n    GET /sleep for \d+\.\d s$", text.rstrip()), (
        text
    )
    assert "asyncio" not in text, "neither asyncio's frames"
    assert "_event_loop.py" not in text, "nor the server's"
    assert wire.read_response().body == b"slept"
    report(server, rf"{RECOVERED}, it was blocked for [45]\.\d s")
    assert server.stderr().count(BLOCKED) == 1, "once for each blockage"


@pytest.mark.parametrize(
    ("target", "function"), [("/sleep-later?3", "sleep_later"), ("/spin?3", "spin")]
)
def test_the_line_is_found_however_the_loop_is_blocked(
    serve: Serve, target: str, function: str
) -> None:
    server = serve(APP)
    ask(server, target)
    text = report(server, BLOCKED)
    assert re.search(rf'> File ".*blocking\.py", line \d+, in {function}\n', text), text


def test_c_code_that_holds_the_interpreter_is_named_as_such(serve: Serve) -> None:
    server = serve(APP)
    ask(server, "/hold?5")
    text = report(server, BLOCKED)
    place = (
        rf'blocking\.py", line {line_of("sum(range(int(speed * duration)))")}, in hold_interpreter'
    )
    assert re.search(rf"s: File .*{place}; C code holds the GIL\n", text), text
    assert re.search(r"> File .*, in hold\n", text), text
    assert "GET /hold for" in text


def test_c_code_that_a_signal_sets_free_is_named_too(serve: Serve) -> None:
    server = serve(APP)
    ask(server, "/hold-asleep?10")
    text = report(server, BLOCKED)
    assert re.search(r": File .*, in hold_asleep; C code holds the GIL\n", text), text
    assert "GET /hold-asleep for" in text


def test_c_code_of_another_thread_is_found(serve: Serve) -> None:
    server = serve(APP, workers=1)
    ask(server, "/hold-elsewhere?5")
    server.wait_for_log("APP: holding")
    ask(server, "/pid")
    text = report(server, BLOCKED)
    assert "C code holds the GIL in another thread" in text
    assert re.search(r"> File .*, in hold_interpreter\n", text), text


def test_a_query_stays_out_of_the_log(serve: Serve) -> None:
    server = serve(APP)
    ask(server, "/sleep?3")
    assert "GET /sleep for" in report(server, BLOCKED)
    assert "sleep?" not in server.stderr()


def test_a_healthy_loop_is_not_mentioned(serve: Serve) -> None:
    """Idle, always busy, waiting in the loop and in threads: nothing of it is a blockage."""
    server = serve(APP, "--slow-loop-warning", "2", "--timeout", "3")
    (pid,) = server.worker_pids()
    for target in ("/busy?4", "/wait?4"):
        assert ask(server, target).read_response().status == 200
    wires = [ask(server, target) for target in ("/busy?4", "/wait?4", "/thread?4")]
    for wire in wires:
        assert wire.read_response().status == 200
    assert "loop" not in server.stderr()
    assert server.worker_pids() == [pid]


@pytest.mark.parametrize("flag", ["--slow-loop-warning", "--timeout"])
def test_each_limit_can_be_off(serve: Serve, flag: str) -> None:
    limits = {"--slow-loop-warning": "0.4", "--timeout": "1.5", flag: "0"}
    server = serve(APP, *(word for limit in limits.items() for word in limit))
    ask(server, "/sleep?4")
    if flag == "--timeout":
        report(server, RECOVERED)
        assert "SIGABRT" not in server.stderr()
        assert server.get("/pid").status_code == 200
    else:
        report(server, "replacing it")
        assert server.stderr().count(BLOCKED) == 1
        assert "(--timeout)" in report(server, BLOCKED)


# The end of a blocked worker


def test_a_worker_that_stays_blocked_is_replaced(serve: Serve) -> None:
    server = serve(APP, "--timeout", "3", workers=2)
    ask(server, "/idle-thread?60").read_response()
    start = time.monotonic()
    wire = ask(server, "/sleep?60")
    text = report(server, r"\(--timeout\): File")
    replaced = report(server, "replacing it")
    seconds = time.monotonic() - start
    print(f"replaced after {seconds:.2f} s")  # noqa: T201 (the time of a bar)
    assert seconds < 20
    assert re.search(r'> File ".*blocking\.py", line \d+, in sleep\n', text), text
    assert "GET /sleep for 3." in text
    found = re.search(r"Worker \d \[(\d+)\] was blocked for 3\.\d s \(--timeout\)", replaced)
    assert found, replaced
    server.wait_for_log(rf"\[{found[1]}\] was killed by SIGABRT", deadline=PATIENCE)
    server.wait_for_workers(2, without=int(found[1]))
    wire.assert_closed(within=PATIENCE)
    assert server.get("/pid").status_code == 200


def test_every_thread_is_shown_before_the_end(serve: Serve) -> None:
    server = serve(APP, "--timeout", "1")
    ask(server, "/idle-thread?60").read_response()
    ask(server, "/sleep?60")
    text = report(server, r"\(--timeout\): File")
    assert re.search(r"\n  Thread \d+ \(lazybones\), most recent call first:\n  > File", text), text


def test_c_code_does_not_save_a_worker(serve: Serve) -> None:
    server = serve(APP, "--timeout", "1", "--slow-loop-warning", "0")
    (victim,) = server.worker_pids()
    ask(server, "/hold?60")
    assert "C code holds the GIL" in report(server, r"\(--timeout\): File")
    server.wait_for_workers(1, without=victim)


def test_a_stopped_worker_is_replaced(serve: Serve) -> None:
    server = serve(APP, "--timeout", "2")
    victim = signal_worker(server, signal.SIGSTOP)
    text = report(server, "no sign of life")
    assert re.search(
        rf"Worker 1 \[{victim}\] has shown no sign of life for \d+\.\d s \(--timeout\), "
        r"it is stopped \(state T",
        text,
    ), text
    server.wait_for_workers(1, without=victim)
    assert eventually(lambda: not psutil.pid_exists(victim), "the end of the stopped worker")


def test_a_server_that_was_stopped_as_a_whole_goes_on(serve: Serve) -> None:
    server = serve(APP, "--timeout", "2")
    (pid,) = server.worker_pids()
    server.signal_group(signal.SIGSTOP)
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        server.signal_group(number)
        let_pass(5)
    assert server.worker_pids() == [pid]
    assert "loop" not in server.stderr()


def test_start_and_shutdown_have_limits_of_their_own(serve: Serve) -> None:
    server = serve(
        "tests.apps.blocking:slow_to_start_and_stop",
        "--timeout",
        "0.5",
        "--slow-loop-warning",
        "0.2",
    )
    assert server.stop(deadline=PATIENCE) == 0
    assert "blocked" not in server.stderr()
    assert "SIGABRT" not in server.stderr()


# On demand


@pytest.mark.parametrize("target", ["/wait?30", "/sleep?30", "/hold?10"])
def test_usr2_shows_what_all_workers_do(serve: Serve, target: str) -> None:
    server = serve(APP, "--slow-loop-warning", "0", workers=2)
    ask(server, "/idle-thread?60").read_response()
    ask(server, target)
    server.wait_for_log("APP: here")
    server.signal(signal.SIGUSR2)
    server.wait_for_log(r"Received SIGUSR2, asking 2 worker\(s\)")
    texts = [
        report(server, rf"Stacks of process \[{pid}\], asked for by SIGUSR2")
        for pid in server.worker_pids()
    ]
    path = target.partition("?")[0]
    assert sum(f"GET {path} for " in text for text in texts) == 1, texts
    assert sum("No request in flight" in text for text in texts) == 1, texts
    assert sum("lie_about" in text for text in texts) == 1, texts
    assert all("the event loop's" in text for text in texts), texts


def test_usr2_to_one_worker_shows_that_one(serve: Serve) -> None:
    server = serve(APP, "--slow-loop-warning", "0", workers=2)
    ask(server, "/sleep?30")
    server.wait_for_log("APP: here")
    pids = server.worker_pids()
    for pid in pids:
        os.kill(pid, signal.SIGUSR2)
        report(server, rf"Stacks of process \[{pid}\]")
    assert server.stderr().count("Stacks of process") == 2
    assert server.worker_pids() == pids


def test_usr2_never_ends_a_worker_that_starts(serve: Serve) -> None:
    server = serve(APP, workers=2, ready=False)
    # As soon as the supervisor itself listens.
    server.wait_for_log("Started parent process")
    for _ in range(20):
        server.signal(signal.SIGUSR2)
        let_pass(0.02)
    server.wait_until_ready()
    assert "SIGUSR2" not in server.stderr().replace("Received SIGUSR2", "").replace(
        "asked for by SIGUSR2", ""
    )


# What it costs


def test_watching_costs_nothing_to_speak_of(serve: Serve) -> None:
    """Less than a thousandth of a processor each, for the supervisor and an idle worker."""
    server = serve(APP, "--timeout", "1", "--no-access-log")
    pids = [server.pid, *server.worker_pids()]
    server.get("/pid")
    before = [cpu_seconds(pid) for pid in pids]
    start = time.monotonic()
    assert server.get("/wait?10").status_code == 200
    elapsed = time.monotonic() - start
    shares = [(cpu_seconds(pid) - b) / elapsed for pid, b in zip(pids, before, strict=True)]
    print("shares of a processor:", shares)  # noqa: T201 (the time of a bar)
    assert max(shares) < 0.01


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
