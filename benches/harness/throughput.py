"""Requests per second, CPU per request, latency and memory of one server in one scenario."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import h2load, processes
from harness.scenarios import AccessLog, Scenario
from harness.servers import (
    Cores,
    Launch,
    Server,
    certificate,
    free_port,
    request,
    running,
    websocket_load,
)

SCRIPT = Path(__file__).with_name("wrk.lua")
WARM_UP_CONNECTIONS = 64


@dataclass(frozen=True)
class Load:
    """What wrk counted."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    errors: int


@dataclass(frozen=True)
class Sample:
    """One measurement: one server, one scenario, one number of connections, one round."""

    server: str
    scenario: str
    connections: int
    round: int
    requests_per_second: float
    cpu_us: float  # of the server's processes, user and system, per request
    p50_us: float
    p99_us: float
    worker_pss: int | None  # None beside others of its kind, which share their pages
    tree_pss: int | None
    core_busy: float  # of the server's core: well below 1 means the load generator was the limit
    errors: int


def wrk_command(
    port: int,
    path: str,
    connections: int,
    seconds: float,
    core: int,
    upload: int = 0,
    tls: bool = False,
    fields: tuple[str, ...] = (),
) -> list[str]:
    """Return wrk's command line: one thread, since it has one core. It resumes no TLS session."""
    scheme = "https" if tls else "http"
    return [
        *("taskset", "-c", str(core), "wrk", "--threads", "1", "--timeout", "10s"),
        *("--connections", str(connections), "--duration", f"{max(1, round(seconds))}s"),
        *(word for field in fields for word in ("--header", field)),
        *("--script", str(SCRIPT), f"{scheme}://127.0.0.1:{port}{path}"),
        *(("--", "POST", str(upload)) if upload else ()),
    ]


def generate(port: int, scenario: Scenario, connections: int, seconds: float, cores: Cores) -> Load:
    """Run the load generator to its end: wrk, h2load for HTTP/2, our own for WebSockets."""
    if scenario.streams:
        words = h2load.command(
            *(port, scenario.path, connections, scenario.streams, cores.load, scenario.tls)
        )
        found = h2load.run([*words, "--duration", f"{max(1, round(seconds))}"], seconds + 60)
        return Load(found.requests, found.seconds, found.p50_us, found.p99_us, found.errors)
    if scenario.message:
        command = [
            *("taskset", "-c", str(cores.load), websocket_load(), str(port)),
            *(str(scenario.message), str(connections), str(max(1, round(seconds)))),
        ]
    else:
        command = wrk_command(
            *(port, scenario.path, connections, seconds, cores.load, scenario.upload),
            tls=scenario.tls,
            fields=(*scenario.fields, *(["Connection: close"] if scenario.fresh else [])),
        )
    ended = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=seconds + 60
    )
    return Load(**json.loads(ended.stderr.strip().splitlines()[-1]))


def _verify(port: int, scenario: Scenario, cores: Cores) -> None:
    if scenario.streams:
        words = h2load.command(port, scenario.path, 1, 1, cores.load, scenario.tls)
        found = h2load.run([*words, "--requests", "1"], 10)
        if (found.ok, found.data) != (1, scenario.answer_length):
            raise RuntimeError(f"answered with {found.data} bytes, {found.errors} errors")
        return
    body = b"x" * scenario.upload if scenario.upload else None
    status, answer = request(port, scenario.path, body, scenario.tls)
    if status != 200 or len(answer) != scenario.answer_length:
        raise RuntimeError(f"answered {status} with {len(answer)} bytes")
    if not answer.startswith(scenario.answer):
        raise RuntimeError(f"answered with `{answer[:64]!r}`")


@contextlib.contextmanager
def _log_sink(kind: AccessLog, core: int, lines: list[int]) -> Iterator[int | None]:
    """Give the access log its file or pipe; append the number of its lines afterwards."""
    if kind is AccessLog.OFF:
        yield None
    elif kind is AccessLog.FILE:
        with tempfile.TemporaryFile() as log:
            yield log.fileno()
            log.seek(0)
            lines.append(sum(1 for _ in log))
    else:
        reader = subprocess.Popen(
            ["taskset", "-c", str(core), "wc", "-l"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if reader.stdin is None:
            raise RuntimeError("no pipe to the reader of the access log")
        yield reader.stdin.fileno()
        lines.append(int(reader.communicate()[0]))


@dataclass
class Standing:
    """A server that runs and is warm."""

    server: Server
    scenario: Scenario
    cores: Cores
    port: int
    pid: int
    served: int = 0

    def measure(self, connections: int, number: int, seconds: float, alone: bool = True) -> Sample:
        """Load it, and say what that took. `alone`: no other server runs."""
        before = processes.cpu_seconds(self.pid)
        load = generate(self.port, self.scenario, connections, seconds, self.cores)
        used = processes.cpu_seconds(self.pid) - before
        self.served += load.requests
        return Sample(
            server=self.server.name,
            scenario=self.scenario.name,
            connections=connections,
            round=number,
            requests_per_second=load.requests / load.seconds,
            cpu_us=used / max(load.requests, 1) * 1e6,
            p50_us=load.p50_us,
            p99_us=load.p99_us,
            worker_pss=processes.pss_bytes(processes.worker(self.pid)) if alone else None,
            tree_pss=processes.tree_pss_bytes(self.pid) if alone else None,
            core_busy=used / load.seconds,
            errors=load.errors,
        )


@contextlib.contextmanager
def standing(
    server: Server, scenario: Scenario, cores: Cores, extra: dict[str, str]
) -> Iterator[Standing]:
    """Start a server and warm it up; after the block, stop it and count the lines of its log."""
    port = free_port()
    logs = scenario.access_log is not AccessLog.OFF
    launch = Launch(
        scenario.app,
        port,
        access_log=logs,
        http2=scenario.streams > 0,
        certificate=certificate() if scenario.tls else None,
    )
    lines: list[int] = []
    with (
        _log_sink(scenario.access_log, cores.load, lines) as sink,
        running(server.command(launch), port, [cores.server], extra, sink) as pid,
    ):
        _verify(port, scenario, cores)
        found = Standing(server, scenario, cores, port, pid)
        warm_up = min(WARM_UP_CONNECTIONS, scenario.connections[-1])
        found.served += generate(port, scenario, warm_up, 1, cores).requests
        yield found
    if lines and lines[0] < found.served:
        raise RuntimeError(f"logged {lines[0]} lines for {found.served} requests")


def measure(
    server: Server,
    scenario: Scenario,
    number: int,
    seconds: float,
    cores: Cores,
    extra: dict[str, str],
) -> list[Sample]:
    """Measure a server by itself, at each number of connections, in the round of that number."""
    with standing(server, scenario, cores, extra) as one:
        return [one.measure(level, number, seconds) for level in scenario.connections]


def contest(
    contestants: Iterable[tuple[Server, Scenario]],
    numbers: Iterable[int],
    seconds: float,
    cores: Cores,
    extra: dict[str, str],
) -> Iterator[Sample]:
    """Measure servers that all run at the same time, in turn, in the rounds of those numbers.

    Each is loaded within seconds of the others, in every second round in reverse order.
    """
    with contextlib.ExitStack() as stack:
        field = [
            stack.enter_context(standing(server, scenario, cores, extra))
            for server, scenario in contestants
        ]
        levels = sorted({level for one in field for level in one.scenario.connections})
        for number in numbers:
            for level in levels:
                for one in field[:: 1 if number % 2 == 0 else -1]:
                    if level in one.scenario.connections:
                        yield one.measure(level, number, seconds, alone=False)
