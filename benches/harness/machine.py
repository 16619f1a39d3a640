"""What the numbers depend on: the machine and the versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

BUSY_LOAD = 0.5  # runnable processes on average: more, and somebody else is on the machine


def describe(rsgi: str) -> dict[str, str]:
    """Return the machine and the software that is not a server."""
    facts = {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": f"{_processor()}, {os.cpu_count()} CPUs",
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "wrk": _first_line(["wrk", "--version"]),
        "redis": _first_line(["redis-server", "--version"]),
        "rsgi's commit": _commit(),
        "load before the run": f"{os.getloadavg()[0]:.2f}",
    }
    other = rsgi_python(rsgi)
    if other not in ("", platform.python_version()):
        facts["rsgi's Python"] = other
    return facts


def rsgi_python(rsgi: str) -> str:
    """Return the version of the interpreter that the script `rsgi` names in its first line."""
    found = shutil.which(rsgi)
    if found is None:
        return ""
    with Path(found).open("rb") as script:
        first = script.readline().decode(errors="replace").strip()
    if not first.startswith("#!"):
        return ""
    return _first_line(
        [*first[2:].split(), "-c", "import platform;print(platform.python_version())"]
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    kilobytes = int(Path("/proc/meminfo").read_text().splitlines()[0].split()[1])
    return f"{kilobytes / 2**20:.0f} GB"


def _first_line(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    # wrk says its version and then fails: its status means nothing.
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (ended.stdout or ended.stderr).strip().splitlines()
    words = lines[0].split() if lines else ["unknown"]
    kept = [word for word in words if "=" not in word or word.startswith("v=")]
    text = " ".join(kept).removeprefix("wrk ").removeprefix("Redis server v=")
    return text.partition(" [")[0]


def _commit() -> str:
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    if shutil.which("git") is None:
        return "unknown"
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.stdout.strip() or "unknown"
