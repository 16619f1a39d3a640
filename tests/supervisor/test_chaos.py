"""Everything at once, at random: what is left must be what was asked for.

20 seconds in the suite. `RSGI_CHAOS_SECONDS=60` is longer, `RSGI_CHAOS_SEED=...` repeats a run (as
far as chance goes: the machine's timing is its own). The seed is printed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.load import Load, Loss
from tests.support.server import Server
from tests.support.waiting import eventually

SECONDS = float(os.environ.get("RSGI_CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("RSGI_CHAOS_SEED", str(time.time_ns() % 1_000_000)))
LONG = 30.0
#: Ten deaths within a minute end the server, as they should: stay far below.
BETWEEN_KILLS = 12.0

CODE = """
import os, time
{fault}
KEPT = []
async def app(scope, receive, send):
    if scope["path"] == "/block":
        time.sleep(0.3)
    if scope["path"] == "/grow":
        KEPT.append(bytearray(b"x") * (60 << 20))
    body = str(os.getpid()).encode()
    length = (b"content-length", b"%d" % len(body))
    await send({{"type": "http.response.start", "status": 200, "headers": [length]}})
    await send({{"type": "http.response.body", "body": body}})
"""


def write_code(directory: Path, fault: str = "") -> None:
    """Replace the application in one step: a worker that starts sees the old or the new one."""
    new = directory / "chaotic.new"
    new.write_text(CODE.format(fault=fault))
    new.rename(directory / "chaotic.py")


class Chaos:
    """What is done to one server, and what may be lost by it."""

    def __init__(self, server: Server, directory: Path) -> None:
        """Begin with the workers that there are."""
        self.server = server
        self.directory = directory
        self.chance = random.Random(SEED)
        self.workers = server.workers
        self.done: list[str] = []
        #: Who was killed, and when.
        self.killed: dict[int, float] = {}
        self._askers: list[threading.Thread] = []

    def run(self, seconds: float) -> None:
        """Do one thing after the other."""
        actions = [
            self.reload,
            self.fail_to_reload,
            self.scale_up,
            self.scale_down,
            self.kill_worker,
            self.pause_worker,
            self.ask_to_grow,
            self.ask_to_block,
            self.reopen_logs,
        ]
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.server.is_running():
            action = self.chance.choice(actions)
            self.done.append(action.__name__)
            action()
            # Not a wait for anything: how soon the next thing happens is a part of chance.
            time.sleep(self.chance.uniform(0, 0.6))
        for asker in self._askers:
            asker.join(LONG)

    def reload(self) -> None:
        """Reload the code that there is."""
        self.server.signal(signal.SIGHUP)

    def fail_to_reload(self) -> None:
        """Reload code that does not start."""
        write_code(self.directory, 'raise RuntimeError("on purpose")')
        since = self.server.mark()
        self.server.signal(signal.SIGHUP)
        # The last worker may just have been killed: then there is nobody to replace, and who comes
        # back in its place is the one that fails.
        self.server.wait_for_log("Reload abandoned|failed to start", since, deadline=LONG)
        write_code(self.directory)

    def scale_up(self) -> None:
        """Ask for a worker more."""
        if self.workers < 4:
            self.workers += 1
            self.server.signal(signal.SIGTTIN)
            self.server.wait_for_log(f"Scaling to {self.workers} workers", deadline=LONG)

    def scale_down(self) -> None:
        """Ask for a worker less."""
        if self.workers > 1:
            self.workers -= 1
            self.server.signal(signal.SIGTTOU)
            self.server.wait_for_log(f"Scaling to {self.workers} workers", deadline=LONG)

    def kill_worker(self) -> None:
        """Kill a worker, now and then."""
        now = time.monotonic()
        pids = self.server.worker_pids()
        if pids and all(now - at > BETWEEN_KILLS for at in self.killed.values()):
            pid = self.chance.choice(pids)
            self.killed[pid] = now
            with contextlib.suppress(ProcessLookupError):  # it was leaving anyway
                os.kill(pid, signal.SIGKILL)

    def pause_worker(self) -> None:
        """Stop a worker for a moment, as a debugger does."""
        pids = self.server.worker_pids()
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            worker = psutil.Process(self.chance.choice(pids))
            worker.suspend()
            try:
                time.sleep(self.chance.uniform(0, 0.5))
            finally:
                worker.resume()

    def ask_to_grow(self) -> None:
        """Let a worker keep more memory than before."""
        self._ask("/grow")

    def ask_to_block(self) -> None:
        """Let a worker block its loop."""
        self._ask("/block")

    def reopen_logs(self) -> None:
        """Let everybody open their log files anew."""
        self.server.signal(signal.SIGUSR1)

    def _ask(self, path: str) -> None:
        def ask() -> None:
            with contextlib.suppress(Exception):  # a kill may take this one
                self.server.get(path)

        self._askers.append(threading.Thread(target=ask, daemon=True))
        self._askers[-1].start()

    def is_excused(self, loss: Loss) -> bool:
        """Tell whether a request was lost with a worker that was killed."""
        if loss.pid is not None:
            return loss.pid in self.killed
        # The first one on its connection: by whoever was killed meanwhile.
        return any(loss.began <= at + 1 and at <= loss.ended for at in self.killed.values())


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@rsgi_only("does not survive it")
@pytest.mark.timeout(SECONDS + 180)
def test_after_everything_at_once_there_is_what_was_asked_for(serve: Serve, tmp_path: Path) -> None:
    print(f"RSGI_CHAOS_SEED={SEED}")  # noqa: T201
    write_code(tmp_path)
    logs = ("--access-logfile", str(tmp_path / "access.log"))
    flags = ("--app-dir", str(tmp_path), "--lifespan", "off", "--workers-max-rss", "150MiB", *logs)
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    server = serve("chaotic:app", *flags, workers=2, env=env, allow_tracebacks=True)
    server.get("/")
    before = descriptors(server.pid)
    chaos = Chaos(server, tmp_path)
    with Load(server.address, 8, pause=0.002) as load:
        chaos.run(SECONDS)
    story = f"seed {SEED}: {chaos.done}\n{server.stderr()[-3000:]}"
    assert server.is_running(), story

    server.wait_until_ready()
    since = server.mark()
    server.signal(signal.SIGHUP)
    server.wait_for_log("Reload complete", since, deadline=2 * LONG)
    supervisor = psutil.Process(server.pid)
    eventually(lambda: len(supervisor.children()) == chaos.workers, f"workers\n{story}", LONG)
    zombies = [c for c in supervisor.children() if c.status() == psutil.STATUS_ZOMBIE]
    assert zombies == [], story
    # The control channel of each worker, and nothing else, comes and goes.
    expected = before + chaos.workers - 2
    eventually(lambda: descriptors(server.pid) == expected, f"{expected} descriptors", LONG)
    lost = [loss for loss in load.losses if not chaos.is_excused(loss)]
    lost_to_kills = f"{len(load.losses)} lost to {len(chaos.killed)} kills"
    print(f"{len(chaos.done)} events, {load.answered} requests, {lost_to_kills}")  # noqa: T201
    assert lost == [], story
    assert server.stop(LONG) == 0
    assert eventually(lambda: not server.survivors())
