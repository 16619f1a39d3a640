"""The program of the process that runs `--on-start`. Started by the supervisor only."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from rsgi._event_loop import await_it
from rsgi._importer import ApplicationError, describe, find
from rsgi._native import Worker
from rsgi._worker import configure_logging

#: Where the frames of a traceback are from that lie between the server and the function.
OURS = (os.path.dirname(__file__), os.path.dirname(asyncio.__file__))


def main(passed: str) -> int:
    """Run the function and return the exit status."""
    _handle_stops(_interrupt)
    worker = Worker.inherited(passed)
    if worker is None:  # the supervisor has gone
        return 0
    if worker.reload:
        from rsgi._bytecode import keep_fresh_sources_uncached

        keep_fresh_sources_uncached()
    if worker.logging is not None and not configure_logging(worker):
        return worker.exit_status
    try:
        run_function(worker.on_start or "", worker.app_dir)
    except ApplicationError as error:
        worker.fail(str(error))
        return worker.exit_status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def run_function(target: str, app_dir: str) -> None:
    """Call `target` and wait for it if it is asynchronous.

    Raises `ApplicationError` with the traceback if it fails.
    """
    function = find(target, app_dir=app_dir)
    if not callable(function):
        raise ApplicationError(f"`{target}` is a `{type(function).__name__}`, not a function")
    try:
        result = function()
        if inspect.isawaitable(result):
            asyncio.run(await_it(result))
    except SystemExit as error:
        if error.code:
            raise ApplicationError(f"it ended with sys.exit({error.code!r})") from error
    except Exception as error:
        raise ApplicationError(describe("it raised", error, *OURS)) from error
    finally:
        sys.stdout.flush()


def _handle_stops(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End the function with an exception, so that what is open is closed or rolled back."""
    # Ctrl-C comes from the terminal and from the supervisor. The second must not interrupt that; if
    # it takes too long, the supervisor kills.
    _handle_stops(lambda _number, _frame: None)
    raise KeyboardInterrupt
