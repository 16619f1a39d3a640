"""The server under test as a process: started, watched, and never left behind.

Owns the process group, its two output streams and what they may contain. Knows nothing of HTTP
beyond an address.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import IO

import httpx
import psutil

from tests.support import flavour
from tests.support.waiting import DEADLINE, eventually
from tests.support.wire import WIRE_TIMEOUT, Address, Wire

ROOT = Path(__file__).parents[2]

# Variables that would change what the server does; everything else is passed on.
_SERVER_VARIABLES = re.compile(
    r"^(RSGI_|UVICORN_)|^(WEB_CONCURRENCY|PORT|FORWARDED_ALLOW_IPS|LISTEN_\w+|NOTIFY_SOCKET)$"
)
_RUNNING_ON = re.compile(r"running on (?P<where>.+?)(?: \(Press|$)", re.MULTILINE)
_TCP = re.compile(r"https?://(?P<host>\[[0-9a-f:]+\]|[\w.-]+):(?P<port>\d+)")
_UNIX = re.compile(r"(?P<path>/\S+)")
_WORKER = re.compile(r"Started server process \[(\d+)\]")
# What rsgi tells behind uvicorn's access line: tests/logs is about that.
_BEHIND_UVICORNS = re.compile(r" \d+\.\d{3}ms \d+B( id=\S+)?( \S+Z \[\d+\])?$")
_TRACEBACK = "Traceback (most recent call last)"
_NEVER = re.compile(r"panicked|RUST_BACKTRACE|never awaited|Fatal Python error|never retrieved")


class StartError(AssertionError):
    """The server ended before it was ready."""


class Server:
    """One server process (with its workers) and its logs."""

    def __init__(
        self,
        app: str,
        *flags: str,
        logs: Path,
        workers: int = 1,
        env: dict[str, str] | None = None,
        cwd: Path = ROOT,
        allow_tracebacks: bool = False,
        pass_fds: tuple[int, ...] = (),
        bind: bool = True,
        prefix: tuple[str, ...] = (),
    ) -> None:
        """Start the process; `bind` adds a free port unless the flags say where to listen.

        `prefix` is a command that runs the server's as its arguments.
        """
        arguments = [app, *flags]
        if workers != 1:
            arguments += ["--workers", str(workers)]
        if bind and not {"--port", "--uds", "--fd", "--bind", "-b"} & set(flags):
            arguments += ["--port", "0"]
        self.command = [*prefix, *flavour.command(*arguments)]
        self.workers = workers
        self.allow_tracebacks = allow_tracebacks
        self.addresses: list[Address] = []
        self._has_lifespan = "off" not in flags
        self._stdout_path = logs / "stdout.log"
        self._stderr_path = logs / "stderr.log"
        self._examined = 0
        self._wires: list[Wire] = []
        environment = {k: v for k, v in os.environ.items() if not _SERVER_VARIABLES.search(k)}
        stdout, stderr = self._stdout_path.open("wb"), self._stderr_path.open("wb")
        with stdout, stderr:
            self._process = self._start(stdout, stderr, environment | (env or {}), cwd, pass_fds)
        self.pid = self._process.pid

    def _start(
        self,
        stdout: IO[bytes],
        stderr: IO[bytes],
        environment: dict[str, str],
        cwd: Path,
        pass_fds: tuple[int, ...],
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )

    # Where it listens

    @property
    def address(self) -> Address:
        """The first address that the server announced."""
        return self.addresses[0]

    @property
    def port(self) -> int:
        """The TCP port of the first address."""
        assert isinstance(self.address, tuple), f"no TCP address: {self.address}"
        return self.address[1]

    @property
    def base_url(self) -> str:
        """The URL of the first address."""
        return f"http://127.0.0.1:{self.port}"

    def connect(
        self,
        timeout: float = WIRE_TIMEOUT,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
    ) -> Wire:
        """Open a raw connection; it is closed with the test at the latest."""
        wire = Wire(self.address, timeout, receive_buffer, send_buffer)
        self._wires.append(wire)
        return wire

    def hang_up(self) -> None:
        """Close the raw connections that are still open."""
        for wire in self._wires:
            wire.close()
        self._wires.clear()

    def client(self) -> httpx.Client:
        """Return an httpx client for this server that ignores the environment."""
        transport = None
        if isinstance(self.address, str):
            transport = httpx.HTTPTransport(uds=self.address)
        base_url = "http://localhost" if transport else self.base_url
        return httpx.Client(base_url=base_url, transport=transport, trust_env=False, timeout=20)

    def get(self, path: str = "/") -> httpx.Response:
        """Send one GET on a connection of its own."""
        with self.client() as client:
            return client.get(path)

    def journal(self, key: str) -> list[str]:
        """Return what the scenario noted under `key` (see `tests.apps.scenarios`)."""
        entries: list[str] = self.get(f"/journal?{key}").json()
        return entries

    def wait_for_journal(self, key: str, entry: str, deadline: float = DEADLINE) -> list[str]:
        """Wait until the scenario has noted `entry`; return the journal."""

        def probe() -> list[str]:
            entries = self.journal(key)
            return entries if entry in entries else []

        return eventually(probe, f"{entry!r} in the journal", deadline)

    # What it says

    def stdout(self) -> str:
        """Return all of standard output."""
        return self._stdout_path.read_text(errors="replace")

    def stderr(self) -> str:
        """Return all of standard error."""
        return self._stderr_path.read_text(errors="replace")

    def mark(self) -> int:
        """Return a position in the error log, for `wait_for_log(since=...)`."""
        return len(self.stderr())

    def wait_for_log(self, pattern: str, since: int = 0, deadline: float = DEADLINE) -> str:
        """Wait for a line of standard error that matches; return the matched text."""

        def probe() -> str:
            found = re.search(pattern, self.stderr()[since:])
            return found.group() if found else ""

        return eventually(probe, f"log line {pattern!r}", deadline)

    def wait_for_access_line(self, pattern: str, deadline: float = DEADLINE) -> str:
        """Wait for a line of standard output that matches; return what uvicorn would write."""

        def probe() -> str:
            lines = (_BEHIND_UVICORNS.sub("", line) for line in self.stdout().splitlines())
            return next((line for line in lines if re.search(pattern, line)), "")

        return eventually(probe, f"access line {pattern!r}", deadline)

    def complaints(self) -> list[str]:
        """Return what has been written since the last call that no test may cause unasked."""
        text = self.stderr()
        fresh, self._examined = text[self._examined :], len(text)
        found = [line for line in fresh.splitlines() if _NEVER.search(line)]
        if _TRACEBACK in fresh and not self.allow_tracebacks:
            found.append(fresh[fresh.index(_TRACEBACK) :])
        return found

    # Its processes

    def worker_pids(self) -> list[int]:
        """Return the living worker processes, oldest first."""
        started = [int(pid) for pid in _WORKER.findall(self._lines())]
        return [pid for pid in started if _is_running(pid)]

    def wait_for_workers(self, count: int, without: int | None = None) -> list[int]:
        """Wait until `count` workers live and none of them is `without`."""

        def probe() -> list[int]:
            pids = self.worker_pids()
            return pids if len(pids) == count and without not in pids else []

        return eventually(probe, f"{count} workers")

    def memory(self) -> int:
        """Return the resident bytes of the first worker."""
        return int(psutil.Process(self.worker_pids()[0]).memory_info().rss)

    def is_running(self) -> bool:
        """Tell whether the main process lives."""
        return self._process.poll() is None

    def wait_until_ready(self, deadline: float = 20.0) -> None:
        """Wait until it has announced its address and every worker serves."""

        def probe() -> bool:
            ready = self._announced() and self._started_workers() >= self.workers
            if not ready and not self.is_running():
                text = self.stdout() + self.stderr()
                raise StartError(f"exit status {self._process.returncode}\n{text}")
            return ready

        try:
            eventually(probe, "start of the server", deadline)
        except AssertionError as error:
            error.add_note(self.stderr())
            raise

    def wait_until_announced(self, deadline: float = 20.0) -> None:
        """Wait until it has announced its address, for logs that do not say which workers serve."""

        def announced() -> bool:
            found = self._announced()
            assert found or self.is_running(), f"it ended: {self.stderr()}"
            return found

        eventually(announced, "an address in the log", deadline)

    def signal(self, number: Signals) -> None:
        """Send a signal to the main process only."""
        self._process.send_signal(number)

    def signal_group(self, number: Signals) -> None:
        """Send a signal to the process group, as a terminal does for Ctrl-C."""
        os.killpg(self.pid, number)

    def wait(self, deadline: float = DEADLINE) -> int:
        """Wait for the main process to end; return its exit status."""
        return self._process.wait(deadline)

    def stop(self, deadline: float = DEADLINE) -> int:
        """Terminate in the ordinary way; return the exit status."""
        self.signal(SIGTERM)
        return self.wait(deadline)

    def survivors(self) -> list[int]:
        """Return the processes of its group that still run."""
        return [
            process.pid
            for process in psutil.process_iter()
            if _group_of(process.pid) == self.pid and _is_running(process.pid)
        ]

    def destroy(self) -> None:
        """End every process it started, whatever state they are in."""
        for pid in {*self.survivors(), *self._descendants(), self.pid}:
            if pid == self.pid and not self.is_running():
                continue
            try:
                os.kill(pid, SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()

    def _descendants(self) -> list[int]:
        try:
            return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _lines(self) -> str:
        """Return both logs: Python's `logging` may write any line to either."""
        return self.stderr() + self.stdout()

    def _announced(self) -> bool:
        self.addresses = []
        text = self._lines()
        for found in _RUNNING_ON.finditer(text):
            where = found["where"]
            for tcp in _TCP.finditer(where):
                self.addresses.append((tcp["host"].strip("[]"), int(tcp["port"])))
            if "://" not in where and (unix := _UNIX.search(where)):
                self.addresses.append(unix["path"])
        return bool(_RUNNING_ON.search(text))

    def _started_workers(self) -> int:
        if self._has_lifespan:
            ends = ("Application startup complete.", "'lifespan' protocol appears unsupported")
            return max(self.stderr().count(end) for end in ends)
        return len(_WORKER.findall(self.stderr()))


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
