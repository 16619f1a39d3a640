"""The process that waits to become the next worker, and the time that it saves."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.reload.conftest import LONG, Project
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = [rsgi_only("starts one when it needs it"), pytest.mark.timeout(180)]

#: From saving a file to the new code's answer, without what the application imports itself.
BAR = 0.150


def spares(server: Server) -> list[int]:
    """Return the processes that wait to be workers."""
    found = []
    for child in psutil.Process(server.pid).children():
        try:
            environment = child.environ()
        except psutil.Error:
            continue  # it has ended, or is not yet what it will be
        # A worker that was one keeps the environment it was started with.
        is_worker = child.pid in server.worker_pids()
        if environment.get("RSGI_ROLE") == "spare" and not is_worker:
            found.append(child.pid)
    return found


def wait_for_spare(server: Server) -> int:
    """Wait until there is one that does not work any more, but has waited for a moment."""
    seen: dict[int, tuple[float, float]] = {}

    def probe() -> int:
        for pid in spares(server):
            process = psutil.Process(pid)
            used, now = process.cpu_times().user, time.monotonic()
            before, since = seen.setdefault(pid, (used, now))
            if used != before:
                seen[pid] = (used, now)
            elif now - since >= 0.1 and used > 0 and process.status() == "sleeping":
                return pid
        return 0

    return eventually(probe, "a process that waits", LONG)


def test_the_new_code_answers_at_once(project: Project) -> None:
    """Once is enough: while other programs have the processors, nothing is at once."""
    server = project.serve()
    times: list[float] = []

    def change() -> bool:
        spare = wait_for_spare(server)
        text = f"version {len(times)}"
        since = time.monotonic()
        project.save(text)
        project.wait_for(text)
        times.append(time.monotonic() - since)
        assert spare in server.worker_pids()
        return times[-1] < BAR

    for _ in range(3):
        change()
    if min(times) >= BAR:
        eventually(change, f"answer within {BAR} s: {times}", LONG)


def test_without_one_a_change_is_taken_as_well(project: Project) -> None:
    server = project.serve(workers=2)
    os.kill(wait_for_spare(server), signal.SIGKILL)
    eventually(lambda: not spares(server), "the end of it", LONG)
    project.save("second")
    project.wait_for("second")
    eventually(lambda: len(server.worker_pids()) == 2, "both workers", LONG)
    assert wait_for_spare(server)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_gone_with_the_server(project: Project, number: signal.Signals) -> None:
    server = project.serve()
    wait_for_spare(server)
    server.signal_group(number)
    assert server.wait(LONG) == 0
    assert not server.survivors()
    assert "KeyboardInterrupt" not in server.stderr()


def test_it_has_the_variables_of_the_last_reload(project: Project) -> None:
    file = project.directory / "variables"
    file.write_text("WHICH=first\n")
    server = project.serve("--env-file", str(file))
    first = wait_for_spare(server)
    file.write_text("WHICH=second\n")
    server.signal(signal.SIGHUP)
    eventually(lambda: first not in spares(server), "the end of the old one", LONG)
    second = wait_for_spare(server)
    assert psutil.Process(second).environ()["WHICH"] == "second"
