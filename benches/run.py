#!/usr/bin/env python3
"""Measure rsgi beside its peers: `python benches/run.py --rsgi PATH`. See benches/README.md."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from harness import balance, idle, machine, plot, redis_server, report, results, throughput
from harness.bars import CONTESTS, Contest, judge
from harness.results import Results
from harness.scenarios import SCENARIOS, Scenario
from harness.servers import Cores, Server, participants

BENCHES = Path(__file__).resolve().parent
RESULTS = BENCHES / "results"
DOCS = BENCHES.parent / "docs"
ALL_SERVERS = ("rsgi", "hyper", "granian", "uvicorn", "gunicorn", "hypercorn")
IDLE_SERVERS = ("rsgi", "granian", "uvicorn")
EXTRA = ("balance", "idle")  # not throughput: measured once


def parse() -> argparse.Namespace:
    """Read the command line."""
    names = [scenario.name for scenario in SCENARIOS] + list(EXTRA)
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rsgi", default="rsgi", metavar="PATH", help="rsgi's executable")
    add("--hyper", metavar="PATH", help="the hyper server (default: build it with cargo)")
    add("--quick", action="store_true", help="about 5 minutes instead of 35, for a look")
    add("--only", action="append", metavar="SCENARIO", choices=names, help=", ".join(names))
    add("--servers", default=",".join(ALL_SERVERS), metavar="A,B", help="default: %(default)s")
    add("--rounds", type=int, help="default: 2, with --quick 1")
    add(
        "--close-rounds",
        type=int,
        help="of the contests of what a promise compares; default: 30, with --quick 0",
    )
    add(
        "--seconds",
        type=int,
        help="of one measurement; default: 3, in a contest 1, with --quick 1",
    )
    add("--server-core", type=int, default=0, metavar="CPU")
    add("--load-core", type=int, default=1, metavar="CPU")
    add("--render", type=Path, metavar="JSON", help="measure nothing: show an earlier run")
    add("--publish", action="store_true", help="write docs/benchmarks.md and .svg, too")
    add("--check", action="store_true", help="fail when a promise is broken or not measured")
    add("--build", default="unknown", metavar="TEXT", help="how rsgi was built, for the page")
    add(
        "--train",
        action="store_true",
        help="put rsgi alone through its work for a second each, for a profile-guided build: fail "
        "when something was not done, and write nothing",
    )
    options = parser.parse_args()
    if options.train:
        options.servers, options.rounds, options.close_rounds, options.seconds = "rsgi", 1, 0, 1
        options.only = options.only or [
            scenario.name for scenario in SCENARIOS if not scenario.needs_redis
        ]
    unknown = set(options.servers.split(",")) - set(ALL_SERVERS)
    if unknown:
        parser.error(f"no such server `{', '.join(unknown)}`, there are {', '.join(ALL_SERVERS)}")
    if options.server_core == options.load_core and not options.render:
        parser.error("the servers and the load need a core each")
    return options


class Run:
    """One run: what takes part, and what was found so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.rounds: int = options.rounds or (1 if options.quick else 2)
        usual_contests = 0 if options.quick else 30
        given = options.close_rounds
        self.close_rounds: int = usual_contests if given is None else given
        self.seconds: int = options.seconds or (1 if options.quick else 3)
        self.close_seconds: int = options.seconds or 1
        self.quick: bool = options.quick
        self.cores = Cores(options.server_core, options.load_core)
        self.only: set[str] = set(options.only or [*(s.name for s in SCENARIOS), *EXTRA])
        self.servers = participants(options.servers.split(","), options.rsgi, options.hyper)
        usual = {options.rounds, options.close_rounds, options.seconds} == {None}
        complete = usual and not (options.quick or options.only)
        self.results = Results(
            machine=machine.describe(options.rsgi) | {"rsgi's build": options.build},
            versions={server.name: f"{server.title} {server.version}" for server in self.servers},
            settings={
                "mode": "full" if complete and len(self.servers) == len(ALL_SERVERS) else "short",
                "measurements": f"{self.rounds} rounds of {self.seconds} s after 1 s of warm-up, "
                f"{self.close_rounds} of {self.close_seconds} s of what a promise compares",
            },
        )

    def measure(self) -> Results:
        """Measure everything that was asked for."""
        with redis_server.running(self.cores.load) as address:
            extra = {"BENCH_REDIS_URL": address} if address else {}
            scenarios = [scenario for scenario in SCENARIOS if self._has(scenario, bool(address))]
            for number in range(self.rounds):
                # Backwards every second round: what slows down slows nobody in particular.
                forwards = number % 2 == 0
                for scenario in scenarios[:: 1 if forwards else -1]:
                    for server in self.servers[:: 1 if forwards else -1]:
                        if takes_part(server, scenario):
                            self._throughput(server, scenario, number, extra)
            for contest in CONTESTS if self.close_rounds else ():
                self._contest(narrowed(scenarios, contest), extra)
        python_servers = [server for server in self.servers if server.runs_python]
        if "balance" in self.only:
            for server in python_servers:
                self._attempt(f"balance of {server.name}", partial(self._balance, server))
        if "idle" in self.only:
            self._idle([server for server in python_servers if server.name in IDLE_SERVERS])
        return self.results

    def _has(self, scenario: Scenario, has_redis: bool) -> bool:
        if scenario.name not in self.only:
            return False
        if scenario.needs_redis and not has_redis:
            self._fail(f"{scenario.title}: redis-server is not installed")
            return False
        if scenario.tls and shutil.which("openssl") is None:
            self._fail(f"{scenario.title}: openssl is not installed")
            return False
        if scenario.streams and shutil.which("h2load") is None:
            self._fail(f"{scenario.title}: h2load is not installed")
            return False
        return True

    def _throughput(
        self, server: Server, scenario: Scenario, number: int, extra: dict[str, str]
    ) -> None:
        def attempt() -> None:
            for sample in throughput.measure(
                server, scenario, number, self.seconds, self.cores, extra
            ):
                self._keep(sample)

        self._attempt(f"{scenario.name} of {server.name}, round {number + 1}", attempt)

    def _contest(self, scenarios: list[Scenario], extra: dict[str, str]) -> None:
        """Measure what a promise compares, each within seconds of the others."""
        contestants = [
            (server, scenario)
            for scenario in scenarios
            for server in self.servers[::-1]  # rsgi with the access log on and off side by side
            if takes_part(server, scenario)
        ]
        numbers = range(self.rounds, self.rounds + self.close_rounds)

        def attempt() -> None:
            for sample in throughput.contest(
                contestants, numbers, self.close_seconds, self.cores, extra
            ):
                self._keep(sample)

        self._attempt(f"contest of {', '.join(s.name for s in scenarios)}", attempt)

    def _keep(self, sample: throughput.Sample) -> None:
        self.results.samples.append(sample)
        memory = "" if sample.tree_pss is None else f"{sample.tree_pss / 2**20:7.1f} MB   "
        print(
            f"{sample.round + 1}/{self.rounds + self.close_rounds} {sample.scenario:13} "
            f"{sample.connections:5} "
            f"{sample.server:10}{sample.requests_per_second:10,.0f}/s "
            f"{sample.cpu_us:10,.1f} us   "
            f"p99 {sample.p99_us / 1000:9,.2f} ms {memory}   busy {sample.core_busy:4.0%}"
            + (f"   {sample.errors} errors" if sample.errors else ""),
            flush=True,
        )

    def _balance(self, server: Server) -> None:
        trials, seconds = (2, 3.0) if self.quick else (5, 10.0)
        found = balance.measure(server, trials, seconds, self.cores)
        self.results.balance.append(found)
        shares = " ".join("/".join(map(str, share)) for share in found.shares)
        print(
            f"balance {server.name:10} {shares}   quick p99 {found.quick_p99_ms:.2f} ms", flush=True
        )

    def _idle(self, servers: list[Server]) -> None:
        if not idle.raise_descriptor_limit():
            self._fail(f"idle connections: the limit of open files is below {idle.CONNECTIONS:,}")
            return
        for server in servers:
            self._attempt(f"idle connections of {server.name}", partial(self._idle_one, server))

    def _idle_one(self, server: Server) -> None:
        found = idle.measure(server, self.cores)
        self.results.idle.append(found)
        print(f"idle {server.name:10} {found.bytes_each / 1024:.1f} KB each", flush=True)

    def _attempt(self, what: str, action: Callable[[], None]) -> None:
        """One server that fails must not end the run of the others."""
        try:
            action()
        except Exception as problem:
            self._fail(f"{what}: {_told(problem)}")

    def _fail(self, what: str) -> None:
        self.results.failures.append(what)
        print(f"NOT MEASURED  {what}", flush=True)


def _told(problem: Exception) -> str:
    """Return what went wrong without a command's paths, which are this machine's."""
    if isinstance(problem, subprocess.TimeoutExpired):
        return f"the load generator had not ended after {problem.timeout:g} s"
    if isinstance(problem, subprocess.CalledProcessError):
        return f"the load generator ended with {problem.returncode}"
    return str(problem)


def takes_part(server: Server, scenario: Scenario) -> bool:
    """Return whether a server is measured in a scenario."""
    if scenario.servers is not None:
        return server.name in scenario.servers
    speaks = server.speaks_http2 or not scenario.streams
    return speaks and (server.runs_python or scenario.with_hyper)


def narrowed(scenarios: list[Scenario], contest: Contest) -> list[Scenario]:
    """Return the scenarios of a contest, with its servers and numbers of connections."""
    return [
        replace(scenario, servers=contest[scenario.name][0], connections=contest[scenario.name][1])
        for scenario in scenarios
        if scenario.name in contest
    ]


def prepare(options: argparse.Namespace) -> None:
    """Refuse what cannot be measured, warn of what spoils it, and leave the servers' core."""
    missing = [tool for tool in ("wrk", "taskset") if shutil.which(tool) is None]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}")
    python = machine.rsgi_python(options.rsgi)
    if python and python.rpartition(".")[0] != platform.python_version().rpartition(".")[0]:
        raise SystemExit(f"rsgi runs on Python {python}, the peers on {platform.python_version()}")
    measured = Path(shutil.which(options.rsgi) or options.rsgi).absolute()
    if find_spec("rsgi") and measured.parent != Path(sys.executable).parent:
        # Every server gets the peers' packages in PYTHONPATH, before its own.
        raise SystemExit("rsgi is installed beside the peers, and would be measured instead")
    if os.getloadavg()[0] > machine.BUSY_LOAD:
        print(f"warning: the machine is not quiet, load {os.getloadavg()[0]:.2f}", flush=True)
    os.sched_setaffinity(0, {options.load_core})


def write(found: Results, publish: bool) -> None:
    """Write the page and the plot."""
    for folder in [RESULTS, *([DOCS] if publish else [])]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "benchmarks.md").write_text(report.page(found))
        (folder / "benchmarks.svg").write_text(plot.svg(found))


def main() -> int:
    """Measure, judge, write."""
    options = parse()
    if options.render:
        found = results.load(options.render)
    else:
        prepare(options)
        begun = time.monotonic()
        found = Run(options).measure()
        if options.train:
            return 1 if found.failures or any(it.errors for it in found.samples) else 0
        found.settings["duration"] = f"{(time.monotonic() - begun) / 60:.0f} minutes"
        path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
        found.save(path)
        print(f"results in {path.relative_to(BENCHES.parent)}")
    write(found, options.publish)
    bars = judge(found)
    print(*bars, sep="\n")
    kept = all(bar.passed for bar in bars) and not found.failures
    return 0 if kept or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
