"""The program of a worker process. Started by the supervisor only."""

from __future__ import annotations

import os
import signal
import sys

from rsgi._native import Template, Worker

#: What is sent to a whole process group and is meant for the supervisor.
SUPERVISORS_SIGNALS = (
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
)


def main() -> int:
    """Serve what the supervisor was asked to serve and return the exit status."""
    for number in SUPERVISORS_SIGNALS:
        # A handler, not SIG_IGN: programs that the application starts do not inherit it.
        signal.signal(number, lambda _number, _frame: None)
    passed = os.environ.pop("RSGI_WORKER", None)
    if passed is None:
        sys.stderr.write("rsgi._worker is started by the supervisor only; run `rsgi` instead\n")
        return 2
    role = os.environ.pop("RSGI_ROLE", None)
    if role == "template":
        from rsgi import _template

        return _template.main(passed)
    if role == "on_start":
        from rsgi import _on_start

        return _on_start.main(passed)
    worker = _become_worker(passed) if role == "spare" else Worker.inherited(passed)
    if worker is None:  # the supervisor has gone, or has something else to do
        return 0
    os.environ["RSGI_WORKER_INDEX"] = str(worker.index)

    from rsgi._importer import ApplicationError, load
    from rsgi._serving import EXIT_GRACE, serve

    if worker.stand_in is not None:
        from rsgi._stand_in import StandIn

        _try_to_configure_logging(worker)
        return serve(worker, StandIn(worker.stand_in), EXIT_GRACE)
    if worker.reload:
        from rsgi._bytecode import keep_fresh_sources_uncached

        keep_fresh_sources_uncached()
    if worker.logging is not None and not configure_logging(worker):
        return worker.exit_status
    try:
        application = load(worker)
    except ApplicationError as error:
        worker.fail(f"Error loading ASGI app: {error}")
        return worker.exit_status
    return serve(worker, application, EXIT_GRACE)


def _become_worker(passed: str) -> Worker | None:
    """Prepare what every worker needs, and wait until one is wanted; return None if none is."""
    import rsgi._bytecode
    import rsgi._importer
    import rsgi._serving  # noqa: F401 - and asyncio, which takes longest

    # Whatever stops the server stops this, and there is nothing to say about it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    worker = Worker.inherited(passed, is_spare=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return worker


def configure_logging(worker: Worker | Template) -> bool:
    """Configure Python's `logging`; report why that cannot be done."""
    from rsgi._importer import add_to_path
    from rsgi._logging import LoggingError, configure

    # A configuration may name the application's own filters and handlers.
    add_to_path(worker.app_dir)
    try:
        configure(worker)
    except LoggingError as error:
        worker.fail(str(error))
        return False
    return True


def _try_to_configure_logging(worker: Worker) -> None:
    """Configure Python's `logging` unless it is that which does not work."""
    if worker.logging is None:
        return
    from contextlib import suppress

    from rsgi._importer import add_to_path
    from rsgi._logging import LoggingError, configure

    add_to_path(worker.app_dir)
    with suppress(LoggingError):
        configure(worker)


if __name__ == "__main__":
    sys.exit(main())
