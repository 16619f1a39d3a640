"""`--workers auto`: as many workers as processors and memory have room for."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.flavour import IS_RSGI
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(not IS_RSGI, reason="only rsgi has --workers auto")

MIB = 1024 * 1024

LARGE = """
ballast = bytes(range(256)) * (60 * 4096)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})
"""


@contextlib.contextmanager
def one_processor() -> Iterator[None]:
    """Start what is started meanwhile on one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def chosen(server: Server) -> int:
    return int(server.wait_for_log(r"(?<=Using )\d+(?= worker)", deadline=30))


def test_there_are_two_for_each_processor_and_one_more(serve: Serve) -> None:
    with one_processor():
        server = serve("tests.apps.stopping:app", "--workers", "auto")
    server.wait_for_log(r"Using \d workers?: 1 CPU", deadline=30)
    if "memory limit" not in server.stderr():
        assert chosen(server) == 3
    server.wait_for_workers(chosen(server))


def test_the_variable_can_say_it(serve: Serve) -> None:
    with one_processor():
        server = serve("tests.apps.stopping:app", env={"WEB_CONCURRENCY": "auto"})
    server.wait_for_workers(chosen(server))


# With real limits


class Group:
    """A cgroup of version 1, in the hierarchies of processors and memory."""

    def __init__(self) -> None:
        """Make it below this process's own groups, or skip the test."""
        paths = {
            name: path
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            for _, names, path in [line.split(":", 2)]
            for name in names.split(",")
        }
        name = f"rsgi-test-{uuid.uuid4().hex}"
        self._parents: list[Path] = []
        self._groups: list[Path] = []
        for controller in ("cpu", "memory"):
            parent = Path(f"/sys/fs/cgroup/{controller}{paths.get(controller, '')}")
            if not (parent / "cgroup.procs").exists():
                pytest.skip(f"no cgroup of version 1 for {controller} at {parent}")
            try:
                (parent / name).mkdir()
            except OSError as error:
                self.remove()
                pytest.skip(f"no cgroup can be made here: {error}")
            self._parents.append(parent)
            self._groups.append(parent / name)

    def limit(self, quota_us: int, memory: int) -> None:
        cpu, mem = self._groups
        (cpu / "cpu.cfs_quota_us").write_text(str(quota_us))
        (mem / "memory.limit_in_bytes").write_text(str(memory))

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Start what is started meanwhile inside."""
        self._move(self._groups)
        try:
            yield
        finally:
            self._move(self._parents)

    def remove(self) -> None:
        for parent, group in zip(self._parents, self._groups, strict=True):
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):  # it has just ended
                    (parent / "cgroup.procs").write_text(pid)
            eventually(partial(_is_removed, group), "an empty cgroup")

    @staticmethod
    def _move(groups: list[Path]) -> None:
        for group in groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))


def _is_removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:  # a process in it has ended and not been reaped
        return False
    return True


@pytest.fixture
def group() -> Iterator[Group]:
    group = Group()
    yield group
    group.remove()


@pytest.mark.parametrize("preload", [False, True])
def test_a_containers_limits_are_kept(
    group: Group, serve: Serve, tmp_path: Path, preload: bool
) -> None:
    (tmp_path / "large.py").write_text(LARGE)
    group.limit(quota_us=150_000, memory=400 * MIB)
    flags = ["--preload"] if preload else []
    with group.entered():
        server = serve("large:app", "--workers", "auto", *flags, cwd=tmp_path)
    line = server.wait_for_log(r"Using .*", deadline=30)
    found = re.fullmatch(
        r"Using (\d) workers?: (\d) CPUs? \(cgroup quota 1.5\), memory limit 400 MiB, "
        r"first worker (\d+) MiB",
        line,
    )
    assert found, line
    workers, processors, size = (int(number) for number in found.groups())
    assert processors == min(2, len(os.sched_getaffinity(0)))
    # At least the 60 MiB of ballast, which a template and one worker share in halves.
    assert size >= (30 if preload else 60)
    assert 1 <= workers <= 5
    # With one more for a replacement, and what a supervisor takes.
    assert (workers + 1) * size < 400
    assert len(server.wait_for_workers(workers)) == workers


def test_a_memory_limit_without_room_leaves_one_worker(
    group: Group, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "large.py").write_text(LARGE)
    group.limit(quota_us=-1, memory=180 * MIB)
    with group.entered():
        server = serve("large:app", "--workers", "auto", cwd=tmp_path)
    line = server.wait_for_log(r"Using .*", deadline=30)
    assert re.match(r"Using 1 worker: \d+ CPUs?, memory limit 180 MiB, first worker \d+ MiB", line)
    assert server.get().text == "served"
    assert len(server.worker_pids()) == 1
