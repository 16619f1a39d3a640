"""`breakpoint()` in an application: the loop stands still, and that is as it should be."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.flavour import rsgi_only
from tests.support.waiting import eventually

pytestmark = rsgi_only("has no watchdog")

SOURCE = """
import rsgi

async def app(scope, receive, send):
    if scope["path"] == "/stop":
        answer = "nothing"
        breakpoint()
    else:
        answer = "went on"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": answer.encode()})

if __name__ == "__main__":
    rsgi.run(app, port=0, lifespan="off", slow_loop_warning=0.3, timeout=1, access_log=False)
"""
COMMAND = ["-m", "rsgi", "program:app", "--port", "0", "--lifespan", "off"]
COMMAND += ["--slow-loop-warning", "0.3", "--timeout", "1", "--no-access-log"]


class Terminal:
    """A program at a terminal of its own."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        """Start it."""
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            start_new_session=True,
            env={**os.environ, "PYTHON_COLORS": "0", "NO_COLOR": "1", "TERM": "dumb"},
        )
        os.close(slave)
        self.shown = ""

    def read(self) -> str:
        """Return everything it has shown."""
        while select.select([self._master], [], [], 0.02)[0]:
            try:
                self.shown += os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # the program has ended
                break
        return self.shown

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._master, line.encode() + b"\n")

    def close(self) -> None:
        """End the program, and wait for it."""
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:  # pdb has started the program anew
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._master)


@pytest.fixture
def at_terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Programs that end with the test."""
    (tmp_path / "program.py").write_text(SOURCE)
    started: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        started.append(Terminal(*arguments, cwd=tmp_path))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


@pytest.mark.parametrize(
    "arguments",
    [("program.py",), ("-m", "pdb", "-c", "continue", "program.py"), tuple(COMMAND)],
    ids=["run", "run under pdb", "command"],
)
def test_a_loop_at_a_breakpoint_is_not_blocked(
    at_terminal: Callable[..., Terminal], arguments: tuple[str, ...]
) -> None:
    terminal = at_terminal(*arguments)
    announced = re.compile(r"running on (http://\S+)")
    [url] = eventually(lambda: announced.findall(terminal.read()), "an address", deadline=30)
    with httpx.Client(timeout=60) as client:
        assert client.get(url).text == "went on"
    asking = subprocess.Popen(
        [sys.executable, "-c", f"import httpx; print(httpx.get('{url}/stop', timeout=60).text)"],
        stdout=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: "(Pdb)" in terminal.read(), "a prompt", deadline=30)
    # Longer than the loop may be blocked, twice over.
    noticed = "A debugger holds the event loop"
    eventually(lambda: noticed in terminal.read(), "a word about the debugger", deadline=30)
    end = time.monotonic() + 2.5
    eventually(lambda: terminal.read() and time.monotonic() > end, "some time")
    terminal.type("answer = 'mended'")
    terminal.type("continue")
    assert asking.communicate(timeout=60)[0].strip() == "mended"
    with httpx.Client(timeout=60) as client:
        assert client.get(url).text == "went on"
    shown = terminal.read()
    assert shown.count(noticed) == 1, shown
    assert "blocked for" not in shown, shown
    assert "Replacing" not in shown, shown
    assert "moves again" not in shown, shown
