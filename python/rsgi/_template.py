"""The program of a template process, from which workers are forked. Started by the supervisor only.

It has no threads and no event loop: a fork has one thread only, and its memory as it was.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

from rsgi._importer import ApplicationError, load
from rsgi._native import Template
from rsgi._serving import EXIT_GRACE, serve
from rsgi._worker import configure_logging


def main(passed: str) -> int:
    """Import the application and fork workers of it; in a worker, return its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # It is the supervisor that ends a template, whatever the process group is sent.
        signal.signal(number, _ignore)
    template = Template.inherited(passed)
    if template.logging is not None and not configure_logging(template):
        _leave(3)
    try:
        application = load(template)
    except ApplicationError as error:
        template.fail(f"Error loading ASGI app: {error}")
        _leave(3)
    # What lives now lives as long as a worker: no worker's collector looks at it again, which would
    # write to memory that is shared until then.
    gc.collect()
    gc.freeze()
    template.ready(_threads())
    while template.wait():
        if _fork(template):
            return _work(template, application)
    _leave(0)
    return 0


def _fork(template: Template) -> bool:
    """Fork the worker that is wanted. Return True in the worker.

    There is a process in between, which ends at once, so that the supervisor becomes the parent.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    try:
        between = _fork_quietly()
    except OSError as error:
        os.close(writing)
        os.close(reading)
        template.not_forked(f"cannot fork: {error}")
        return False
    if between:
        os.close(writing)
        failure = _end_of(between)
        worker = os.read(reading, 32)
        os.close(reading)
        # Only now that it is the supervisor's: the worker waits until the supervisor answers it.
        if worker:
            template.forked(int(worker))
        else:
            template.not_forked(failure)
        return False
    try:
        worker_pid = _fork_quietly()
        if worker_pid:
            os.write(writing, str(worker_pid).encode())
            os._exit(0)
    except OSError as error:
        os._exit(error.errno or 1)
    os.close(writing)
    os.close(reading)
    return True


def _fork_quietly() -> int:
    with warnings.catch_warnings():
        # Of threads; that has been said, with their names.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _end_of(between: int) -> str:
    """Wait for the process that forks the worker; return what it means if it did not."""
    try:
        _, status = os.waitpid(between, 0)
    except ChildProcessError:
        return "cannot fork"  # the application ignores SIGCHLD, so there is no status
    number = os.waitstatus_to_exitcode(status)
    if number < 0:
        return f"forking was ended by signal {-number}"
    return f"cannot fork: {os.strerror(number)}"


def _work(template: Template, application: Any) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        # What the application's import has installed stays; the rest is as in any new process.
        if signal.getsignal(number) is _ignore:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
    worker = template.become_worker()
    if worker is None:
        return 0
    os.environ["RSGI_WORKER_INDEX"] = str(worker.index)
    return serve(worker, application, EXIT_GRACE)


def _threads() -> list[str]:
    """Return the names of the threads beside this one."""
    threads = [t for t in threading.enumerate() if t is not threading.current_thread()]
    names = [thread.name for thread in threads]
    known = {thread.native_id for thread in threads} | {threading.get_native_id()}
    for task in Path("/proc/self/task").glob("*"):
        if int(task.name) not in known:
            try:
                names.append((task / "comm").read_text().strip())
            except OSError:
                continue  # it has ended
    return names


def _leave(status: int) -> None:
    """Exit without what the import has registered to run at exit: that is for the workers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass
