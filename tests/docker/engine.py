"""A Docker engine and its containers, through the command `docker`.

Owns: finding or starting the engine (`scripts/docker-engine`), building the image, and containers
that never outlive their test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.server import ROOT
from tests.support.waiting import eventually

#: Neither a pull nor a build is in here; starting a container on a busy machine is.
LONG = 60.0
#: `docker build`, the packages of the application included.
BUILD = 900.0
#: What is used where this is set; otherwise the wheel that `scripts/build` has made.
FULL = "RSGI_TEST_DOCKER_FULL"
_NO_ENGINE = 75


def docker(*arguments: str, timeout: float = LONG, check: bool = True) -> str:
    """Run `docker`; return what it prints, both streams together."""
    ran = subprocess.run(
        ["docker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        # A client without the buildx plugin has this builder only.
        env=os.environ | {"DOCKER_BUILDKIT": "0"},
    )
    assert ran.returncode == 0 or not check, f"docker {' '.join(arguments)}\n{ran.stdout}"
    return ran.stdout.strip()


class Engine:
    """The engine; started by this object if there was none, and then ended by it."""

    def __init__(self) -> None:
        """Make sure that there is one, or skip the test that wants it."""
        self.variables: dict[str, str] = {}
        try:
            self._ask("start", getattr(sys, "_base_executable", sys.executable))
        except BaseException:
            self.close()
            raise

    def _ask(self, *arguments: str) -> str:
        script = [str(ROOT / "scripts" / "docker-engine"), *arguments]
        ran = subprocess.run(script, capture_output=True, text=True, timeout=BUILD)
        for name, _, value in (line.partition("=") for line in ran.stdout.splitlines()):
            self.variables[name] = value
        if ran.returncode == _NO_ENGINE:
            pytest.skip(f"no Docker engine: {ran.stderr.strip().splitlines()[-1]}")
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def close(self) -> None:
        """End the engine if it was started here."""
        pid = self.variables.pop("ENGINE_PID", "")
        if pid:
            os.kill(int(pid), signal.SIGTERM)
            eventually(lambda: _has_ended(int(pid)), "the end of the engine", LONG)

    def build(self, directory: Path, *arguments: str) -> None:
        """Build what is in `directory`."""
        docker("build", "--quiet", *arguments, str(directory), timeout=BUILD)

    def image(self, directory: Path) -> str:
        """Build the images of both stages, `rsgi-test/runtime` too; return the example's name."""
        arguments = ["--build-arg", f"PYTHON_IMAGE={self.variables['PYTHON_IMAGE']}"]
        if os.environ.get(FULL):
            self._ask("rust")
            arguments += ["--build-arg", f"RUST_IMAGE={self.variables['RUST_IMAGE']}"]
            return self._both(ROOT, "full", *arguments)
        # The stages behind the one that compiles, as they are, around a wheel that is there.
        (directory / "Dockerfile").write_text(with_wheel((ROOT / "Dockerfile").read_text()))
        shutil.copy(wheel(), directory)
        shutil.copytree(ROOT / "examples", directory / "examples")
        return self._both(directory, "wheel", *arguments)

    def _both(self, directory: Path, tag: str, *arguments: str) -> str:
        for stage in ("runtime", "example"):
            image = f"rsgi-test/{stage}:{tag}"
            self.build(directory, "--tag", image, "--target", stage, *arguments)
        return image


def _has_ended(pid: int) -> bool:
    try:
        # Whoever its parent is by now may not care for it.
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def with_wheel(dockerfile: str) -> str:
    """Return the Dockerfile with a wheel of its context in place of the stages that make one."""
    runtime = re.search(r"^FROM \$\{PYTHON_IMAGE\} AS runtime$", dockerfile, re.MULTILINE)
    assert runtime, "no stage `runtime`"
    assert re.search(r"^FROM \$\{PYTHON_IMAGE\} AS wheel$", dockerfile[: runtime.start()], re.M)
    given = "ARG PYTHON_IMAGE\nFROM ${PYTHON_IMAGE} AS wheel\nCOPY *.whl /wheels/\n"
    return given + dockerfile[runtime.start() :]


def wheel() -> Path:
    """Return the wheel for this interpreter that `scripts/build` has left."""
    tag = f"-cp{sys.version_info.major}{sys.version_info.minor}-"
    found = [path for path in (ROOT / "target/wheels-test").glob("rsgi-*.whl") if tag in path.name]
    if not found:
        pytest.skip(f"no wheel {tag.strip('-')} in target/wheels-test: run scripts/build first")
    return found[0]


class Container:
    """A container that runs until it is closed."""

    def __init__(self, image: str, *arguments: str, flags: tuple[str, ...] = ()) -> None:
        """Start it: `flags` are Docker's, `arguments` the command inside."""
        name = f"rsgi-test-{uuid.uuid4().hex[:12]}"
        self.id = docker("run", "--detach", "--name", name, *flags, image, *arguments)

    def close(self) -> None:
        """Remove it, running or not."""
        docker("rm", "--force", self.id)

    def inspect(self) -> dict[str, Any]:
        """Return what the engine knows about it."""
        (found,) = json.loads(docker("inspect", self.id))
        known: dict[str, Any] = found
        return known

    def state(self) -> dict[str, Any]:
        """Return its state."""
        state: dict[str, Any] = self.inspect()["State"]
        return state

    def logs(self) -> str:
        """Return both of its streams."""
        return docker("logs", self.id)

    def mark(self) -> int:
        """Return a position in the log, for `wait_for_log(since=...)`."""
        return len(self.logs())

    def wait_for_log(self, pattern: str, since: int = 0) -> str:
        """Wait for a line of the log that matches; return the matched text."""

        def probe() -> str:
            logs = self.logs()
            found = re.search(pattern, logs[since:])
            assert found or self.state()["Running"], f"it has ended:\n{logs}"
            return found.group() if found else ""

        try:
            return eventually(probe, f"log line {pattern!r}", LONG)
        except AssertionError as error:
            error.add_note(self.logs())
            raise

    def ready(self) -> Container:
        """Wait until it serves."""
        self.wait_for_log("rsgi running on")
        return self

    @property
    def host(self) -> str:
        """Its own address: a proxy for a published port would accept what nobody serves."""
        networks = self.inspect()["NetworkSettings"]["Networks"]
        address: str = next(iter(networks.values()))["IPAddress"]
        return address

    def get(self, path: str = "/", port: int = 8000) -> httpx.Response:
        """Send one GET."""
        with httpx.Client(trust_env=False, timeout=LONG) as client:
            return client.get(f"http://{self.host}:{port}{path}")

    def supervisor(self) -> psutil.Process:
        """Return its process 1."""
        return psutil.Process(self.state()["Pid"])

    def workers(self, count: int) -> set[psutil.Process]:
        """Wait until process 1 has this many children, none of them a zombie; return them."""

        def probe() -> set[psutil.Process]:
            try:
                children = set(self.supervisor().children(recursive=True))
                alive = all(child.status() != psutil.STATUS_ZOMBIE for child in children)
            except psutil.NoSuchProcess:  # it ended in between
                return set()
            return children if alive and len(children) == count else set()

        return eventually(probe, f"{count} workers and nothing else", LONG)

    def kill(self, name: str) -> None:
        """Send a signal to process 1."""
        docker("kill", "--signal", name, self.id)

    def execute(self, *command: str) -> tuple[int, str]:
        """Run a command inside; return its status and what it prints."""
        ran = subprocess.run(
            ["docker", "exec", self.id, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONG,
        )
        return ran.returncode, ran.stdout.strip()

    def stop(self, seconds: int = 20) -> int:
        """Stop it as `docker stop` does; return the exit status."""
        docker("stop", "--time", str(seconds), self.id)
        return self.status()

    def status(self) -> int:
        """Wait for its end; return the exit status."""
        return int(docker("wait", self.id))
