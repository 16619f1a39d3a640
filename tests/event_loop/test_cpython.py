"""CPython's own tests of asyncio, run on rsgi's loop.

Each module runs in a process of its own (`cpython_runner.py`), which also counts the loops that
were created: a module that quietly ran on another loop fails. What is expected to fail is in
`cpython_expected.toml`.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

# The module, and how many loops it creates at the very least (about 80 % of what 3.11 creates).
# Zero: the module works on fakes, so that only its results count.
MODULES = {
    "test_base_events": 45,
    "test_buffered_proto": 1,
    "test_eager_task_factory": 20,
    "test_events": 200,
    "test_locks": 20,
    "test_queues": 20,
    "test_runners": 0,
    "test_selector_events": 0,
    "test_sendfile": 48,
    "test_server": 2,
    "test_sock_lowlevel": 31,
    "test_ssl": 17,
    "test_sslproto": 16,
    "test_streams": 53,
    "test_subprocess": 93,
    "test_taskgroups": 28,
    "test_tasks": 260,
    "test_threads": 3,
    "test_timeouts": 25,
    "test_unix_events": 38,
    "test_waitfor": 10,
}
FIRST_PYTHON = {"test_eager_task_factory": (3, 12), "test_waitfor": (3, 12)}

# The slowest module takes 17 s, the slowest test 4 s.
SECONDS_PER_TEST = 30
SECONDS_PER_MODULE = 180


@dataclass
class Report:
    """What one process wrote."""

    outcomes: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    running: str | None = None
    end: dict[str, Any] | None = None

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read the lines that were written, also those of a process that died."""
        report = cls()
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            record = json.loads(line)
            if "started" in record:
                report.running = record["started"]
            elif "test" in record:
                report.running = None
                report.outcomes[record["test"]] = record["outcome"]
                report.details[record["test"]] = record["detail"]
            else:
                report.end = record
        return report


def expectations(table: str, module: str) -> dict[str, str]:
    """Return test and reason for this Python, from one table of the file."""
    with (HERE / "cpython_expected.toml").open("rb") as file:
        entries = tomllib.load(file)[table].get(module, {})
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = {}
    for test, entry in entries.items():
        if isinstance(entry, str):
            found[test] = entry
        elif python in entry["python"]:
            found[test] = entry["reason"]
    return found


def run_module(kind: str, module: str, directory: Path) -> tuple[Report, str]:
    """Run one module in a process and return its report and what it printed."""
    output = directory / "results"
    command = [sys.executable, "-P", str(HERE / "cpython_runner.py")]
    command += ["--loop", kind, "--output", str(output)]
    command += ["--seconds-per-test", str(SECONDS_PER_TEST)]
    for test in expectations("skipped", module) if kind == "rsgi" else ():
        command += ["--skip", test]
    log = directory / "log"
    with log.open("wb") as printed:
        try:
            done = subprocess.run(
                [*command, f"test.test_asyncio.{module}"],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                timeout=SECONDS_PER_MODULE,
                check=False,
            )
            end = f"exit status {done.returncode}"
        except subprocess.TimeoutExpired:
            end = f"killed after {SECONDS_PER_MODULE} seconds"
    return Report.read(output), f"{end}\n{log.read_text(errors='replace')[-6000:]}"


def verdict(report: Report, expected: dict[str, str]) -> list[str]:
    """Return what is wrong, a line for each test."""
    wrong = []
    for test, outcome in report.outcomes.items():
        failed = outcome not in ("ok", "skip")
        if failed and test not in expected:
            wrong.append(f"{test}: {outcome}\n{report.details[test]}")
        elif not failed and test in expected:
            wrong.append(f"{test}: expected to fail, and did not: {expected[test]}")
    wrong += [f"{test}: no such test" for test in expected if test not in report.outcomes]
    return wrong


@pytest.mark.timeout(SECONDS_PER_MODULE + 10)
@pytest.mark.parametrize("module", MODULES)
def test_cpython_module_passes(kind: str, module: str, tmp_path: Path) -> None:
    if sys.version_info < FIRST_PYTHON.get(module, (3, 11)):
        pytest.skip(f"{module} is newer than this Python")
    if importlib.util.find_spec("test") is None or importlib.util.find_spec(
        "test.test_asyncio"
    ) is None:  # fmt: skip
        pytest.skip("this Python comes without its package `test`")
    report, printed = run_module(kind, module, tmp_path)
    assert report.end is not None, f"the process died in `{report.running}`: {printed}"
    wrong = verdict(report, expectations("expected", module) if kind == "rsgi" else {})
    assert not wrong, "\n\n".join(wrong)
    assert sum(outcome == "ok" for outcome in report.outcomes.values()) > 0, "nothing was run"
    assert report.end["loops"] >= MODULES[module], "the loop under test was not used"
    assert report.end["other_loops"] == 0, "another loop was used"
    assert MODULES[module] == 0 or report.end["turns"] > 0


def test_every_expectation_names_a_module_that_runs() -> None:
    with (HERE / "cpython_expected.toml").open("rb") as file:
        tables = tomllib.load(file)
    assert set(tables) == {"expected", "skipped"}
    assert set(tables["expected"]) | set(tables["skipped"]) <= set(MODULES)


def test_a_failure_that_nobody_expected_is_reported() -> None:
    report = Report({"A.good": "ok", "A.bad": "failure"}, {"A.good": "", "A.bad": "because"})
    assert verdict(report, {}) == ["A.bad: failure\nbecause"]
    assert verdict(report, {"A.bad": "known"}) == []


def test_an_expected_failure_that_passes_is_reported() -> None:
    report = Report({"A.good": "ok"}, {"A.good": ""})
    assert verdict(report, {"A.good": "known"}) == ["A.good: expected to fail, and did not: known"]
    assert verdict(report, {"A.gone": "known"}) == ["A.gone: no such test"]
