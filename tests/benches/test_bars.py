"""The verdicts of `benches/run.py`: values in, verdicts out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness.bars import CONTESTS, Bar, judge
from harness.results import Results
from harness.scenarios import SCENARIOS
from harness.throughput import Sample


def sample(server: str, scenario: str, connections: int, number: int, cpu_us: float) -> Sample:
    """A measurement in which the server's core had nothing else to do."""
    return Sample(
        server=server,
        scenario=scenario,
        connections=connections,
        round=number,
        requests_per_second=1e6 / cpu_us,
        cpu_us=cpu_us,
        p50_us=1,
        p99_us=cpu_us,
        worker_pss=1,
        tree_pss=1,
        core_busy=1,
        errors=0,
    )


def verdicts(samples: list[Sample]) -> dict[str, Bar]:
    """Every promise by its words."""
    found = judge(Results(machine={}, versions={}, settings={}, samples=samples))
    return {bar.promise: bar for bar in found}


# The machine is twice as slow in the second round, and in the third only while rsgi is measured.
SLOWNESS = {"rsgi": (1, 2, 2), "peer": (1, 2, 1)}


@pytest.mark.parametrize(
    ("own_us", "passed"), [(12.0, True), (12.6, False)], ids=["kept", "broken"]
)
def test_a_promise_is_judged_by_the_rounds_own_ratios(own_us: float, passed: bool) -> None:
    samples = [
        sample(server, "bare", 64, number, us * SLOWNESS[kind][number])
        for server, kind, us in (("rsgi", "rsgi", own_us), ("hyper", "peer", 10.0))
        for number in range(3)
    ]
    bar = verdicts(samples)["bare ASGI, CPU per request against hyper"]
    assert bar.passed is passed
    assert bar.detail.startswith(f"{own_us / 10:.3f}x")


def test_a_rate_is_a_floor() -> None:
    samples = [
        sample(server, "fastapi", 64, 0, us)
        for server, us in (("rsgi", 70.0), ("granian", 80.0), ("uvicorn", 84.0))
    ]
    found = verdicts(samples)
    assert found["FastAPI JSON, requests/s against granian"].passed is True
    assert found["FastAPI JSON, requests/s against uvicorn"].passed is False


def test_memory_is_that_of_a_server_that_was_alone() -> None:
    samples = [
        replace(sample(server, "bare", 64, number, 10.0), worker_pss=pss)
        for server, rounds in (("rsgi", (18, None, None)), ("granian", (19, None, None)))
        for number, pss in enumerate(rounds)
    ]
    found = verdicts(samples)
    assert found["memory (PSS) of a worker with a bare application against granian"].passed is True
    beside = verdicts([replace(it, worker_pss=None) for it in samples])
    assert {bar.passed for bar in beside.values() if bar.group == 4} == {None}


def test_what_was_not_measured_is_neither_kept_nor_broken() -> None:
    assert {bar.passed for bar in verdicts([]).values()} == {None}


def test_every_promise_about_speed_has_its_contest() -> None:
    """Nothing but the contests' samples, and only memory and balance are left open."""
    measured = {(scenario.name, level) for scenario in SCENARIOS for level in scenario.connections}
    samples = [
        sample(server, name, level, 0, 10.0)
        for contest in CONTESTS
        for name, (servers, connections) in contest.items()
        for server in servers
        for level in connections
    ]
    assert {(it.scenario, it.connections) for it in samples} <= measured
    open_ones = {bar.group for bar in verdicts(samples).values() if bar.passed is None}
    assert open_ones <= {3, 4}
