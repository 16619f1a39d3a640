"""Running a worker on an event loop, from start to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from rsgi._event_loop import new_event_loop
from rsgi._native import Worker

#: How long what outlives the event loop may take: tasks, generators and, in a worker, threads.
EXIT_GRACE = 1.0


def serve(worker: Worker, application: Any, exit_grace: float | None = None) -> int:
    """Serve until the worker is stopped and return the exit status.

    With `exit_grace` the process ends that many seconds after the loop, whatever still runs in it.
    """
    event_loop = new_event_loop()
    asyncio.set_event_loop(event_loop)
    try:
        with _stop_signals(worker):
            worker.serve(event_loop, application, _nothing, event_loop.stop)
            try:
                event_loop.run_forever()
            finally:
                if exit_grace is not None:
                    _exit_soon(worker.exit_status, exit_grace)
            _cancel_all_tasks(event_loop)
            _close_generators(event_loop)
    finally:
        asyncio.set_event_loop(None)
        event_loop.close()
    return worker.exit_status


def _exit_soon(status: int, seconds: float) -> None:
    """Make sure that the process ends, though a thread of the application's may hang."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()


def _nothing() -> None:
    """Be called where nobody waits for the start."""


@contextmanager
def _stop_signals(worker: Worker) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop the worker: the first gracefully, the second at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        worker.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    before |= take_reopening(worker.reopen_logs)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def take_reopening(reopen: Callable[[], object]) -> dict[signal.Signals, Any]:
    """Have SIGUSR1 reopen the log files, unless the program around has its own use for it.

    Return the handler that was there before, by the signal.
    """
    if signal.getsignal(signal.SIGUSR1) != signal.SIG_DFL:
        return {}
    return {signal.SIGUSR1: signal.signal(signal.SIGUSR1, lambda _number, _frame: reopen())}


def _cancel_all_tasks(event_loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what the application left running, as `asyncio.run` does."""
    tasks = asyncio.all_tasks(event_loop)
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    event_loop.run_until_complete(asyncio.wait(tasks, timeout=EXIT_GRACE))


def _close_generators(event_loop: asyncio.AbstractEventLoop) -> None:
    """Close the asynchronous generators that were left half-way, as `asyncio.run` does."""
    with suppress(TimeoutError):
        closing = asyncio.wait_for(event_loop.shutdown_asyncgens(), EXIT_GRACE)
        event_loop.run_until_complete(closing)
