"""Four workers: how evenly they share connections, and what a blocked one costs everybody else.

The servers may use every core here, as they would in service; the clients keep to the load's.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from harness import processes
from harness.servers import Cores, Launch, Server, free_port, running
from harness.throughput import wrk_command

WORKERS = 4
CONNECTIONS = 64
BLOCKERS = 2
QUICK_INTERVAL_SECONDS = 0.001
SETTLE_SECONDS = 0.5  # of one second of load: all connections are made in the first milliseconds
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Balance:
    """What four workers did."""

    server: str
    shares: list[list[int]]  # per trial: connections of each worker, most first
    quick_p50_ms: float
    quick_p99_ms: float
    quick_max_ms: float
    quick_requests: int

    @property
    def worst(self) -> list[int]:
        """Return the least even of the trials."""
        return max(self.shares, key=lambda share: share[0] - share[-1])


def _share(pid: int, port: int, core: int) -> list[int]:
    """Count the connections of each worker while wrk uses them."""
    command = wrk_command(port, "/", CONNECTIONS, 1, core)
    load = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(SETTLE_SECONDS)
        counts = sorted(processes.connections(pid, port).values(), reverse=True)
    finally:
        load.wait()
    # A supervisor holds none: the workers are the first ones, also those that got nothing.
    return (counts + [0] * WORKERS)[:WORKERS]


def _exchange(client: socket.socket, path: str) -> None:
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    received = b""
    while not received.endswith(b"\r\n\r\ndone"):
        chunk = client.recv(4096)
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        received += chunk


def _block(port: int, ended: threading.Event) -> None:
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as client,
    ):
        while not ended.is_set():
            _exchange(client, "/block")


@contextlib.contextmanager
def _blockers(port: int) -> Iterator[None]:
    ended = threading.Event()
    threads = [threading.Thread(target=_block, args=(port, ended)) for _ in range(BLOCKERS)]
    for thread in threads:
        thread.start()
    try:
        yield
        if not all(thread.is_alive() for thread in threads):
            raise RuntimeError("a blocking client lost its connection")
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _quick(port: int, seconds: float) -> list[float]:
    """Make requests on fresh connections, one after the other; return what each took."""
    times = []
    end = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _exchange(client, "/")
            times.append(time.perf_counter() - begun)
        time.sleep(QUICK_INTERVAL_SECONDS)
    return sorted(times)


def _at(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))] * 1000


def measure(server: Server, trials: int, seconds: float, cores: Cores) -> Balance:
    """Measure one server."""
    port = free_port()
    everywhere = list(range(os.cpu_count() or 1))
    command = server.command(Launch("waiting:app", port, workers=WORKERS))
    with running(command, port, everywhere, {}) as pid:
        _await_workers(pid)
        shares = []
        for _ in range(trials):
            shares.append(_share(pid, port, cores.load))
            _await_no_connections(pid, port)
        with _blockers(port):
            times = _quick(port, seconds)
    return Balance(
        server=server.name,
        shares=shares,
        quick_p50_ms=_at(times, 0.5),
        quick_p99_ms=_at(times, 0.99),
        quick_max_ms=times[-1] * 1000,
        quick_requests=len(times),
    )


def _await_no_connections(pid: int, port: int) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while any(processes.connections(pid, port).values()):
        if time.monotonic() > deadline:
            raise RuntimeError("connections that the client has closed stay open")
        time.sleep(0.02)


def _await_workers(pid: int) -> None:
    """Wait until the workers exist and rest: they have all imported the application."""
    deadline = time.monotonic() + 30
    last = -1.0
    while time.monotonic() < deadline:
        used = processes.cpu_seconds(pid)
        if used == last and len(processes.tree(pid)) > WORKERS:
            return
        last = used
        time.sleep(0.5)
    raise RuntimeError("the workers did not come to rest")
