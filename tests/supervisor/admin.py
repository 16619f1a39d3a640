"""A server with an admin listener, and what asks that."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from tests.conftest import Serve
from tests.support.server import Server
from tests.support.waiting import eventually

APP = "tests.apps.stopping:app"
PATIENCE = 30.0
PATHS = ["/livez", "/readyz", "/startupz", "/metrics", "/workers"]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Admin:
    """The admin listener of a server."""

    def __init__(self, server: Server) -> None:
        """Find the address in the log."""
        found = server.wait_for_log(r"Admin listener at \S+").split()[-1]
        self.path = found.removeprefix("unix:") if found.startswith("unix:") else None
        self.address = found.removeprefix("http://").removeprefix("unix:")
        self.port = 0 if self.path else int(found.rpartition(":")[2])

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request."""
        transport = httpx.HTTPTransport(uds=self.path) if self.path else None
        base_url = "http://localhost" if self.path else f"http://127.0.0.1:{self.port}"
        with httpx.Client(
            base_url=base_url, transport=transport, trust_env=False, timeout=PATIENCE
        ) as client:
            return client.request(method, path, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Send a GET."""
        return self.request("GET", path, **options)

    def workers(self) -> list[dict[str, Any]]:
        """Return the list of workers."""
        workers: list[dict[str, Any]] = self.get("/workers").json()["workers"]
        return workers

    def metrics(self) -> Samples:
        """Return every sample of the metrics."""
        samples: Samples = {}
        for family in parse_prometheus(self.get("/metrics").text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in samples
                samples[key] = sample.value
        return samples

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all samples with this name and these labels."""
        wanted = set(labels.items())
        return sum(v for (n, found), v in self.metrics().items() if n == name and wanted <= found)

    def wait_for_total(self, name: str, value: float, **labels: str) -> None:
        """Wait until the sum is right: a request is counted when its response has left."""
        what = f"{name} {labels} of {value}"
        eventually(lambda: self.total(name, **labels) == value, what, PATIENCE)


def started(serve: Serve, *flags: str, **options: Any) -> tuple[Server, Admin]:
    """Start a server and wait until its supervisor knows that it is ready."""
    server = serve(APP, "--admin-bind", "127.0.0.1:0", *flags, **options)
    admin = Admin(server)
    # The log says that a worker is ready a moment before its supervisor knows.
    eventually(lambda: admin.get("/startupz").status_code == 200, "start", PATIENCE)
    return server, admin


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Stop all workers: nothing in them runs, neither Python nor Rust."""
    pids = server.worker_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def wait_for_lag(admin: Admin, seconds: float) -> float:
    """Wait until the loop of the only worker has been blocked for so long; return how long."""

    def probe() -> float:
        lag = float(admin.workers()[0]["loop_lag_seconds"])
        return lag if lag >= seconds else 0

    return eventually(probe, f"{seconds} s of blocking", PATIENCE)
