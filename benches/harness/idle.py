"""What an idle keep-alive connection costs: how memory grows over ten thousand of them."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from dataclasses import dataclass

from harness import processes
from harness.scenarios import SCENARIOS
from harness.servers import Cores, Launch, Server, free_port, running
from harness.throughput import generate

CONNECTIONS = 10_000
SPARE_DESCRIPTORS = 500
REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\nuser-agent: idle\r\naccept: */*\r\n\r\n"
SETTLED = 0.005  # two readings half a second apart differ by no more
SETTLE_DEADLINE_SECONDS = 20


@dataclass(frozen=True)
class Idle:
    """What idle connections cost."""

    server: str
    before_pss: int
    after_pss: int
    connections: int

    @property
    def bytes_each(self) -> float:
        """Return the growth per connection."""
        return (self.after_pss - self.before_pss) / self.connections


def raise_descriptor_limit() -> bool:
    """Take as many descriptors as allowed, for the servers, too; return whether they suffice."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard == resource.RLIM_INFINITY or hard >= CONNECTIONS + SPARE_DESCRIPTORS


def _settled_pss(pid: int) -> int:
    deadline = time.monotonic() + SETTLE_DEADLINE_SECONDS
    last = 0
    while (now := processes.tree_pss_bytes(pid)) and time.monotonic() < deadline:
        if abs(now - last) <= now * SETTLED:
            break
        last = now
        time.sleep(0.5)
    return now


def _open(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(REQUEST)
    received = b""
    while not received.endswith(b"Hello world!"):
        chunk = client.recv(4096)
        if not chunk:
            raise ConnectionResetError("the server closed a connection")
        received += chunk
    return client


def measure(server: Server, cores: Cores) -> Idle:
    """Warm a server up, open the connections with one request each, and leave them."""
    port = free_port()
    command = server.command(Launch("bare:app", port))
    with (
        running(command, port, [cores.server], {}) as pid,
        contextlib.ExitStack() as clients,
    ):
        generate(port, SCENARIOS[0], 64, 1, cores)
        before = _settled_pss(pid)
        for _ in range(CONNECTIONS):
            clients.enter_context(_open(port))
        after = _settled_pss(pid)
        held = sum(processes.connections(pid, port).values())
    if held < CONNECTIONS:
        raise RuntimeError(f"only {held} of {CONNECTIONS} connections stayed open")
    return Idle(server.name, before, after, CONNECTIONS)
