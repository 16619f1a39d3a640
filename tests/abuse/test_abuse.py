"""Attacks, one at a time, and what an honest client and the worker's memory see of each.

Alone on its machine (`scripts/abuse`, which sets `RSGI_ABUSE=strict`) an honest request takes less
than 50 ms in 99 of 100 cases, while the attack goes on with all it has. Beside other work the
limits are loose, the attacks short, and the connections fewer: nobody hangs, nothing grows, nothing
crashes.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.abuse.attackers import ATTACKS
from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.server import ROOT, Server

pytestmark = rsgi_only("is not what is attacked")

IS_STRICT = os.environ.get("RSGI_ABUSE") == "strict"
SECONDS = 8.0 if IS_STRICT else 1.5
P99 = 0.05 if IS_STRICT else 3.0
GROWTH = 50_000_000
CONNECTIONS = 10_000 if IS_STRICT else 1_000
REQUEST = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
#: How often the honest client asks.
PAUSE = 0.005
#: Requests on one connection of the honest client.
REUSE = 10


class Honest:
    """A client that asks all the time, on a new connection now and then, in a thread."""

    def __init__(self, server: Server) -> None:
        """Prepare."""
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.times: list[float] = []
        self.failures: list[str] = []

    def __enter__(self) -> Honest:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, once the request under way is answered."""
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._ask()
            except OSError as error:
                self.failures.append(repr(error))

    def _ask(self) -> None:
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self._server.port), 30) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(REUSE):
                client.sendall(REQUEST)
                received = b""
                while not received.endswith(b"\r\n\r\nhello"):
                    data = client.recv(4096)
                    if not data:
                        raise ConnectionResetError(received)
                    received += data
                self.times.append(time.perf_counter() - began)
                if self._stop.wait(PAUSE):
                    return
                began = time.perf_counter()

    def percentile(self, share: float) -> float:
        """Return how long it took at most in this share of all cases."""
        times = sorted(self.times)
        return times[min(int(len(times) * share), len(times) - 1)]


@contextmanager
def attacked(name: str, server: Server) -> Iterator[subprocess.Popen[str]]:
    """Attack the server; the attacker ends with the block at the latest."""
    command = [sys.executable, "-m", "tests.abuse.attackers", name, str(server.port), str(SECONDS)]
    environment = os.environ | {"ATTACK_CONNECTIONS": str(CONNECTIONS)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as attacker:
        try:
            assert attacker.stdout
            assert attacker.stdout.readline() == "attacking\n"
            yield attacker
        finally:
            attacker.kill()


def raise_limit() -> None:
    """Let this process, and the server that it starts, open as many files as it may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.mark.parametrize("name", ATTACKS)
def test_nobody_notices(name: str, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_limit()
    try:
        # Nothing of what is measured may come from the log of an attack.
        server = serve("tests.apps.abused:app", "--no-access-log")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    worker = server.worker_pids()
    with Honest(server) as before:
        time.sleep(0.5)
    memory = peak = server.memory()
    with attacked(name, server) as attacker, Honest(server) as honest:
        while attacker.poll() is None:
            peak = max(peak, server.memory())
            time.sleep(0.05)
        assert attacker.stdout
        done = json.loads(attacker.stdout.read() or "{}")
    growth = max(peak, server.memory()) - memory
    quiet, p99 = before.percentile(0.99), honest.percentile(0.99)
    if IS_STRICT:
        line = (
            f"\n{name:22} p50 {honest.percentile(0.5) * 1e3:6.2f} ms  p99 {p99 * 1e3:6.2f} ms "
            f"(quiet {quiet * 1e3:.2f})  max {max(honest.times) * 1e3:6.1f} ms  "
            f"{len(honest.times)} requests  +{growth / 1e6:.1f} MB  {done}"
        )
        with capsys.disabled():
            sys.stdout.write(line)
    assert done
    assert honest.failures == []
    assert server.worker_pids() == worker
    assert growth < GROWTH, f"{growth / 1e6:.1f} MB"
    assert p99 < P99, f"{p99 * 1000:.1f} ms"
