"""What rsgi promises, as comparisons with a verdict each. Pure: results in, verdicts out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import sub, truediv
from statistics import median

from harness.idle import CONNECTIONS as IDLE_CONNECTIONS
from harness.results import Key, Results, Row
from harness.scenarios import SCENARIOS

USUAL = 64  # connections: enough to keep a worker busy, few enough not to measure the queue
CROWD = 1000
CPU_LIMITS = {"hyper": 1.25, "granian": 0.5, "uvicorn": 0.42}
ACCESS_LOG_LIMIT = 1.10
HTTP2_LIMITS = {("http2-100", 8): 0.45, ("http2-1", 16): 0.4}  # against granian
HTTP2_HYPER_US = 3.0  # above bare hyper, at 100 streams on each connection
RATE_LIMITS = {"granian": 1.10, "uvicorn": 1.22}
MOST_CONNECTIONS, FEWEST_CONNECTIONS = 18, 14
QUICK_P99_MS = 2.0
IDLE_BYTES = 7 * 1024
MESSAGE_LIMITS = {"ws-32": {"granian": 0.33, "uvicorn": 0.5}, "ws-64k": {"uvicorn": 0.6}}
MEMORY_PEERS = ("granian", "uvicorn")

# What the promises about speed compare, each in a contest of its own: the servers and the numbers
# of connections of each scenario.
Contest = dict[str, tuple[frozenset[str], tuple[int, ...]]]
CONTESTS: list[Contest] = [
    {
        "bare": (frozenset({"rsgi", *CPU_LIMITS}), (USUAL,)),
        "log-file": (frozenset({"rsgi"}), (USUAL,)),
        "log-pipe": (frozenset({"rsgi"}), (USUAL,)),
    },
    {"fastapi": (frozenset({"rsgi", *RATE_LIMITS}), (USUAL, CROWD))},
    {"http2-100": (frozenset({"rsgi", "granian", "hyper"}), (8,))},
    {"http2-1": (frozenset({"rsgi", "granian"}), (16,))},
]
CONTESTS += [
    {name: (frozenset({"rsgi", *limits}), (USUAL,))} for name, limits in MESSAGE_LIMITS.items()
]


@dataclass(frozen=True)
class Bar:
    """One promise; `passed` is None when this run did not measure it."""

    group: int
    promise: str
    passed: bool | None
    detail: str

    def __str__(self) -> str:
        word = {True: "PASS", False: "FAIL", None: "SKIP"}[self.passed]
        return f"{word}  ({self.group}) {self.promise}: {self.detail}"


def judge(results: Results) -> list[Bar]:
    """Return every promise with its verdict."""
    rows = results.rows()
    return [
        *_cpu(results),
        *_http2(results),
        *_fastapi(results, rows),
        *_messages(results),
        *_balance(results),
        *_memory(rows),
        *_idle(results),
    ]


def _compared(
    results: Results,
    own: Key,
    peer: Key,
    value: str = "cpu_us",
    by: Callable[[float, float], float] = truediv,
) -> float | None:
    """Compare two servers round by round and return the median.

    In a contest the two are loaded within seconds; a minute later a machine may be a fifth slower.
    """
    found, others = ({s.round: getattr(s, value) for s in results.of(key)} for key in (own, peer))
    pairs = [by(found[number], others[number]) for number in found.keys() & others.keys()]
    return float(median(pairs)) if pairs else None


def _limit(group: int, promise: str, value: float | None, limit: float, unit: str = "") -> Bar:
    if value is None:
        return Bar(group, promise, None, "not measured")
    return Bar(group, promise, value <= limit, f"{value:.3f}{unit}, limit {limit:.2f}{unit}")


Rows = dict[Key, Row]


def _cpu(results: Results) -> Iterator[Bar]:
    own = ("bare", "rsgi", USUAL)
    for server, limit in CPU_LIMITS.items():
        ratio = _compared(results, own, ("bare", server, USUAL))
        yield _limit(1, f"bare ASGI, CPU per request against {server}", ratio, limit, "x")
    for scenario, place in (("log-file", "a file"), ("log-pipe", "a pipe")):
        ratio = _compared(results, (scenario, "rsgi", USUAL), own)
        promise = f"access log on, to {place}, CPU per request against off"
        yield _limit(1, promise, ratio, ACCESS_LOG_LIMIT, "x")


def _http2(results: Results) -> Iterator[Bar]:
    for (scenario, connections), limit in HTTP2_LIMITS.items():
        own, peer = ((scenario, server, connections) for server in ("rsgi", "granian"))
        promise = f"{scenario}, CPU per request against granian"
        yield _limit(1, promise, _compared(results, own, peer), limit, "x")
    more = _compared(results, ("http2-100", "rsgi", 8), ("http2-100", "hyper", 8), by=sub)
    yield _limit(1, "http2-100, CPU per request above hyper", more, HTTP2_HYPER_US, " us")


def _fastapi(results: Results, rows: Rows) -> Iterator[Bar]:
    for server, limit in RATE_LIMITS.items():
        ratio = _compared(
            *(results, ("fastapi", "rsgi", USUAL), ("fastapi", server, USUAL)),
            "requests_per_second",
        )
        promise = f"FastAPI JSON, requests/s against {server}"
        if ratio is None:
            yield Bar(2, promise, None, "not measured")
        else:
            yield Bar(2, promise, ratio >= limit, f"{ratio:.3f}x, at least {limit:.2f}x")
    for connections in (USUAL, CROWD):
        own = rows.get(("fastapi", "rsgi", connections))
        peers = [
            row
            for (scenario, server, level), row in rows.items()
            if scenario == "fastapi" and level == connections and server != "rsgi"
        ]
        promise = f"FastAPI JSON, p99 at {connections} connections against the best peer"
        if own is None or not peers:
            yield Bar(2, promise, None, "not measured")
            continue
        best = min(peers, key=lambda row: row.p99_us)
        detail = f"{own.p99_us / 1000:.2f} ms, {best.server} {best.p99_us / 1000:.2f} ms"
        yield Bar(2, promise, own.p99_us <= best.p99_us, detail)


def _messages(results: Results) -> Iterator[Bar]:
    for scenario, limits in MESSAGE_LIMITS.items():
        for server, limit in limits.items():
            ratio = _compared(results, (scenario, "rsgi", USUAL), (scenario, server, USUAL))
            promise = f"WebSocket echo ({scenario}), CPU per message against {server}"
            yield _limit(5, promise, ratio, limit, "x")


def _balance(results: Results) -> Iterator[Bar]:
    promise = f"64 connections over 4 workers, {FEWEST_CONNECTIONS} to {MOST_CONNECTIONS} each"
    blocked = f"quick requests beside two blocked workers, p99 below {QUICK_P99_MS:.0f} ms"
    own = next((found for found in results.balance if found.server == "rsgi"), None)
    if own is None:
        yield Bar(3, promise, None, "not measured")
        yield Bar(3, blocked, None, "not measured")
        return
    worst = own.worst
    even = worst[0] <= MOST_CONNECTIONS and worst[-1] >= FEWEST_CONNECTIONS
    detail = f"worst of {len(own.shares)}: {'/'.join(map(str, worst))}"
    yield Bar(3, promise, even and sum(worst) == USUAL, detail)
    p99 = own.quick_p99_ms
    yield Bar(3, blocked, p99 < QUICK_P99_MS, f"{p99:.2f} ms, slowest {own.quick_max_ms:.2f} ms")


def _memory(rows: Rows) -> Iterator[Bar]:
    own = rows.get((SCENARIOS[0].name, "rsgi", USUAL))
    for server in MEMORY_PEERS:
        peer = rows.get((SCENARIOS[0].name, server, USUAL))
        promise = f"memory (PSS) of a worker with a bare application against {server}"
        if not (own and peer and own.worker_pss and peer.worker_pss):
            yield Bar(4, promise, None, "not measured")
            continue
        detail = f"{own.worker_pss / 2**20:.1f} MB, {server} {peer.worker_pss / 2**20:.1f} MB"
        yield Bar(4, promise, own.worker_pss <= peer.worker_pss, detail)


def _idle(results: Results) -> Iterator[Bar]:
    own = next((found for found in results.idle if found.server == "rsgi"), None)
    promise = f"memory of an idle connection, {IDLE_CONNECTIONS:,} open"
    value = own.bytes_each / 1024 if own else None
    yield _limit(4, promise, value, IDLE_BYTES / 1024, " KB")
