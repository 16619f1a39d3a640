"""The load of the HTTP/2 rows: h2load's command line, and what its output says."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_REQUESTS = re.compile(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
_STATUSES = re.compile(r"status codes: (\d+) 2xx")
_DATA = re.compile(r"\((\d+)\) data")
_SECONDS = re.compile(r"finished in ([\d.]+)(us|ms|s)\b")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Counted:
    """What h2load counted."""

    requests: int
    errors: int
    ok: int
    data: int
    seconds: float
    p50_us: float
    p99_us: float


def command(
    port: int, path: str, connections: int, streams: int, core: int, tls: bool = False
) -> list[str]:
    """Return the command line, less what says how long."""
    scheme = "https" if tls else "http"
    return [
        *("taskset", "-c", str(core), "h2load", "--threads", "1"),
        *("--clients", str(connections), "--max-concurrent-streams", str(streams)),
        f"{scheme}://127.0.0.1:{port}{path}",
    ]


def run(words: list[str], timeout: float) -> Counted:
    """Run h2load to its end."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        ended = subprocess.run(
            [*words, "--log-file", str(log)],
            capture_output=True,
            text=True,
            check=True,
            timeout=timeout,
        )
        with log.open() as lines:
            times = sorted(_times(lines))
    return read(ended.stdout, times)


def read(output: str, times: list[int]) -> Counted:
    """Read h2load's output, and the sorted times of its requests."""
    requests, statuses, data = (pattern.search(output) for pattern in (_REQUESTS, _STATUSES, _DATA))
    seconds = _SECONDS.search(output)
    if requests is None or statuses is None or data is None or seconds is None:
        raise RuntimeError(f"h2load said `{output[-500:]}`")
    succeeded, *errors = map(int, requests.groups())
    return Counted(
        requests=succeeded,
        errors=sum(errors),
        ok=int(statuses[1]),
        data=int(data[1]),
        seconds=float(seconds[1]) * _UNITS[seconds[2]],
        p50_us=times[len(times) // 2] if times else 0,
        p99_us=times[len(times) * 99 // 100] if times else 0,
    )


def _times(lines: Iterable[str]) -> Iterable[int]:
    """Return the microseconds of each request: the third word of a line."""
    return (int(line.split()[2]) for line in lines)
