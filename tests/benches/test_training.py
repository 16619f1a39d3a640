"""The training of a profile-guided build, `benches/run.py --train`, as `scripts/train` runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

BENCHES = Path(__file__).resolve().parents[2] / "benches"

pytestmark = pytest.mark.skipif(
    not (shutil.which("wrk") and shutil.which("taskset") and {0, 1} <= os.sched_getaffinity(0)),
    reason="the load needs wrk, taskset, and a processor beside the server's",
)


def train(python: Path, *scenarios: str) -> subprocess.CompletedProcess[str]:
    """Run a part of it with the rsgi beside an interpreter."""
    rsgi = str(python.with_name("rsgi"))
    only = [word for name in scenarios for word in ("--only", name)]
    return subprocess.run(
        [str(python), str(BENCHES / "run.py"), "--train", "--rsgi", rsgi, *only],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def reports() -> dict[Path, float]:
    """What the benchmark has written, and when."""
    return {file: file.stat().st_mtime for file in (BENCHES / "results").glob("*")}


def test_rsgi_is_put_through_its_work_alone_and_nothing_is_written() -> None:
    before = reports()
    ended = train(Path(sys.executable), "browser", "log-pipe")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = [line.split()[1:4] for line in ended.stdout.splitlines() if line.startswith("1/1 ")]
    assert lines == [["browser", "64", "rsgi"], ["log-pipe", "64", "rsgi"]]
    assert reports() == before


def test_a_build_that_does_not_do_its_work_is_not_trained(tmp_path: Path) -> None:
    venv.create(tmp_path)
    python = tmp_path / "bin" / "python"
    broken = python.with_name("rsgi")
    broken.write_text(
        f"#!{python}\nimport sys\nprint('rsgi 0')\nsys.exit(0 if '--version' in sys.argv else 7)\n"
    )
    broken.chmod(0o755)
    ended = train(python, "bare")
    assert ended.returncode == 1
    assert "NOT MEASURED  bare of rsgi, round 1: no listener" in ended.stdout
    assert "exit status 7" in ended.stdout
