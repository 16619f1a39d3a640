"""A whole run as values: samples, their medians and spread, and the same as JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from harness.balance import Balance
from harness.idle import Idle
from harness.throughput import Sample

Key = tuple[str, str, int]  # scenario, server, connections


@dataclass(frozen=True)
class Row:
    """The medians of all rounds."""

    server: str
    scenario: str
    connections: int
    requests_per_second: float
    cpu_us: float
    p50_us: float
    p99_us: float
    worker_pss: float | None  # of the rounds in which the server was alone
    tree_pss: float | None
    core_busy: float
    errors: int
    rounds: int
    spread: float  # half of the range of CPU per request over the rounds, as a share of the median


@dataclass(frozen=True)
class Results:
    """Everything one run found out."""

    machine: dict[str, str]
    versions: dict[str, str]  # title and version by server
    settings: dict[str, str]
    samples: list[Sample] = field(default_factory=list)
    balance: list[Balance] = field(default_factory=list)
    idle: list[Idle] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def of(self, key: Key) -> list[Sample]:
        """Return the samples of one row."""
        return [s for s in self.samples if (s.scenario, s.server, s.connections) == key]

    def rows(self) -> dict[Key, Row]:
        """Return the medians, in the order of measurement."""
        groups: defaultdict[Key, list[Sample]] = defaultdict(list)
        for sample in self.samples:
            groups[sample.scenario, sample.server, sample.connections].append(sample)
        return {key: _row(samples) for key, samples in groups.items()}

    def save(self, path: Path) -> None:
        """Write the run to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load(path: Path) -> Results:
    """Read a run back."""
    stored = json.loads(path.read_text())
    return Results(
        machine=stored["machine"],
        versions=stored["versions"],
        settings=stored["settings"],
        samples=[Sample(**sample) for sample in stored["samples"]],
        balance=[Balance(**balance) for balance in stored["balance"]],
        idle=[Idle(**idle) for idle in stored["idle"]],
        failures=stored["failures"],
    )


def _row(samples: list[Sample]) -> Row:
    def middle(values: Iterable[float]) -> float:
        return float(median(values))

    def of_known(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return middle(known) if known else None

    costs = [sample.cpu_us for sample in samples]
    first = samples[0]
    return Row(
        server=first.server,
        scenario=first.scenario,
        connections=first.connections,
        requests_per_second=middle(sample.requests_per_second for sample in samples),
        cpu_us=middle(costs),
        p50_us=middle(sample.p50_us for sample in samples),
        p99_us=middle(sample.p99_us for sample in samples),
        worker_pss=of_known(sample.worker_pss for sample in samples),
        tree_pss=of_known(sample.tree_pss for sample in samples),
        core_busy=middle(sample.core_busy for sample in samples),
        errors=sum(sample.errors for sample in samples),
        rounds=len(samples),
        spread=(max(costs) - min(costs)) / 2 / max(middle(costs), 1e-9),
    )
