"""Programs that run on the loop under test in a process of their own.

For everything that would disturb the test process: signals, forks, limits, interpreter exit. A
program is source text that finds ``new_event_loop`` defined, and says how far it is by printing.
"""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

# A program that takes longer hangs; the slowest needs a second or two.
DEADLINE_SECONDS = 30.0

PRELUDE = """
import asyncio, faulthandler, sys
faulthandler.dump_traceback_later({deadline}, exit=True)
if {kind!r} == "rsgi":
    from rsgi import new_event_loop
else:
    new_event_loop = asyncio.SelectorEventLoop
def say(*words):
    print(*words, flush=True)
"""


class Program:
    """Runs source text on one kind of loop, with warnings as errors."""

    def __init__(self, kind: str) -> None:
        if kind == "rsgi":
            importlib.import_module("rsgi")
        self.prelude = PRELUDE.format(kind=kind, deadline=DEADLINE_SECONDS)

    def command(self, source: str) -> list[str]:
        """Return the command line that runs `source`."""
        return [sys.executable, "-W", "error", "-c", self.prelude + textwrap.dedent(source)]

    def run(self, source: str, *, status: int = 0) -> list[str]:
        """Run `source` to its end and return the words it printed."""
        done = subprocess.run(
            self.command(source),
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS + 5,
            check=False,
        )
        assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        if status == 0:
            assert done.stderr == "", done.stderr
        return done.stdout.split()

    @contextmanager
    def started(self, source: str) -> Iterator[subprocess.Popen[str]]:
        """Start `source`, wait until it says ``ready``, and hand over the process."""
        with subprocess.Popen(
            self.command(source),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                first = process.stdout.readline()
                assert first == "ready\n", (first, process.communicate())
                yield process
            finally:
                process.kill()


def run_within(
    loop: asyncio.AbstractEventLoop,
    main: Callable[[], Awaitable[object]],
    seconds: float = 20.0,
) -> None:
    """Run a coroutine function to its end, with a limit."""

    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await main()

    loop.run_until_complete(limited())
