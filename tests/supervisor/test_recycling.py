"""Workers that have had their share of memory or time, and what the log says of a death."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.load import Load
from tests.support.server import Server
from tests.support.waiting import eventually

APP = "tests.apps.stopping:app"
LONG = 30.0
MIB = 1 << 20

pytestmark = [rsgi_only("has no such limits"), pytest.mark.timeout(120)]


def test_a_worker_that_has_grown_is_replaced(serve: Serve) -> None:
    server = serve(APP, "--workers-max-rss", "150MiB", workers=2)
    grown = int(server.get("/grow?200").text)
    line = server.wait_for_log(rf"Replacing Worker \d \[{grown}\] \(memory: .*\)", deadline=LONG)
    size = int(line.split("memory: ")[1].split()[0])
    assert 200 <= size < 400
    assert line.endswith("MiB is over --workers-max-rss 150 MiB)")
    server.wait_for_log(rf"\[{grown}\] exited with code 0", deadline=LONG)
    assert server.stderr().count("Replacing") == 1


def test_workers_live_for_their_time_and_go_one_by_one(serve: Serve) -> None:
    server = serve(APP, "--no-access-log", "--workers-lifetime", "1s", workers=2)
    with Load(server.address, 8) as load:
        eventually(lambda: len(load.pids) >= 5, "five workers", LONG)
    assert load.losses == []
    line = server.wait_for_log(r"Replacing Worker \d \[\d+\] \(lifetime: .*\)")
    assert line.endswith(" s is over --workers-lifetime 1 s)")


def test_looking_at_memory_costs_next_to_nothing(serve: Serve) -> None:
    server = serve(APP, "--workers-max-rss", "1GiB", workers=4)
    process = psutil.Process(server.pid)
    before = sum(process.cpu_times()[:2])
    # More than one look at the memory of four workers.
    psutil.Process(server.worker_pids()[0])
    with pytest.raises(psutil.TimeoutExpired):
        process.wait(12)
    used = sum(process.cpu_times()[:2]) - before
    print(f"supervisor: {used / 12:.3%} of a processor")  # noqa: T201
    # The bar is 0.1 %; the system counts in hundredths of a second.
    assert used <= 0.05


def test_a_kill_that_was_not_the_kernels_is_not_called_out_of_memory(serve: Serve) -> None:
    server = serve(APP, workers=2)
    victim = server.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    line = server.wait_for_log(rf"Worker \d \[{victim}\] was killed by .*", deadline=LONG)
    assert line.endswith("was killed by SIGKILL")


# With a real memory limit


class MemoryGroup:
    """A control group of its own, version 1 or 2."""

    def __init__(self, path: Path, limit: str) -> None:
        """Remember where it is; `limit` is the file with the limit."""
        self.path = path
        self._limit = path / limit
        self._swap = path / "memory.swap.max"

    def limit(self, size: int) -> tuple[str, ...]:
        """Set the limit; return the command that runs another one in the group."""
        self._limit.write_text(str(size))
        if self._swap.exists():
            self._swap.write_text("0")
        script = f'echo $$ > {self.path}/cgroup.procs && exec "$@"'
        return ("sh", "-c", script, "sh")


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    """Make a control group for the test's server, or skip."""
    name = f"rsgi-test-{os.getpid()}"
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    parent, limit = (v1, "memory.limit_in_bytes") if v1.is_dir() else (v2, "memory.max")
    path = parent / name
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"cannot make a control group: {error}")
    try:
        if not (path / limit).exists():
            pytest.skip("the memory controller is not delegated to control groups here")
        yield MemoryGroup(path, limit)
    finally:
        for line in (path / "cgroup.procs").read_text().split():
            os.kill(int(line), signal.SIGKILL)
        eventually(lambda: not (path / "cgroup.procs").read_text(), "an empty group", LONG)
        path.rmdir()


def events(server: Server) -> list[str]:
    words = ("Replacing", "Started worker", "exited with code 0")
    lines = server.stderr().partition("replacing 2 workers")[2].splitlines()
    return [word for line in lines for word in words if word in line]


def test_without_room_for_two_workers_are_replaced_in_place(
    serve: Serve, group: MemoryGroup
) -> None:
    prefix = group.limit(400 * MIB)
    server = serve(APP, workers=2, prefix=prefix)
    pids: set[int] = set()
    while len(pids) < 2:
        pids.add(int(server.get("/pid").text))
    for size in (120, 120):
        server.get(f"/grow?{size}")
    server.signal(signal.SIGHUP)
    line = server.wait_for_log(r"Replacing Worker 1 .*", deadline=LONG)
    assert "(reload) in place: " in line
    assert " of 400 MiB are used, another " in line
    server.wait_for_log("Reload complete", deadline=LONG)
    in_place = ["Replacing", "exited with code 0", "Started worker"]
    assert events(server)[:3] == in_place
    assert server.get("/pid").status_code == 200


def test_with_room_they_overlap(serve: Serve, group: MemoryGroup) -> None:
    server = serve(APP, workers=2, prefix=group.limit(2000 * MIB))
    server.signal(signal.SIGHUP)
    server.wait_for_log("Reload complete", deadline=LONG)
    assert events(server) == ["Replacing", "Started worker", "exited with code 0"] * 2


def test_a_worker_that_the_kernel_killed_at_the_limit_is_out_of_memory(
    serve: Serve, group: MemoryGroup
) -> None:
    server = serve(APP, workers=2, prefix=group.limit(250 * MIB))
    with server.connect() as wire:
        victim = int(wire.get("/pid").body)
        wire.request("/grow?400")
        line = server.wait_for_log(rf"Worker \d \[{victim}\] was killed by .*", deadline=LONG)
        assert line.endswith("was killed by SIGKILL (out of memory)")
    server.wait_for_workers(2, without=victim)
    # The counter has not grown since, so the next one was somebody else.
    other = server.worker_pids()[0]
    os.kill(other, signal.SIGKILL)
    line = server.wait_for_log(rf"Worker \d \[{other}\] was killed by .*", deadline=LONG)
    assert line.endswith("was killed by SIGKILL")


def test_a_part_of_the_limit_is_a_limit(serve: Serve, group: MemoryGroup) -> None:
    flags = ("--workers-max-rss", "20%")
    server = serve(APP, *flags, prefix=group.limit(500 * MIB))
    server.get("/grow?120")
    server.wait_for_log(r"memory: \d+ MiB is over --workers-max-rss (99|100) MiB", deadline=LONG)
