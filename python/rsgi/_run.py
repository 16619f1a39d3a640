"""Serving from a program: `rsgi.run(app)`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rsgi._command import worker_command
from rsgi._native import Keywords, Worker, supervise_keywords


def run(app: str | Callable[..., Any], **settings: Any) -> None:
    """Serve `app` until SIGINT or SIGTERM.

    `app` is an ASGI application, or an import string such as `"main:app"`. `settings` are the
    command's options with underscores: `host="0.0.0.0"`, `port=8000`, `workers=4`. With an import
    string and several workers, or `reload=True`, a supervisor starts a process for each; otherwise
    the application runs in this process and this thread. `WEB_CONCURRENCY` (for an import string)
    and `FORWARDED_ALLOW_IPS`, in the environment or in an `env_file`, stand for what is not given.

    Raises `ValueError` or `TypeError` for settings that are wrong, and `SystemExit` with the
    command's exit status if serving failed, also if an address cannot be bound: the log says why.
    """
    named = {"app": app} if isinstance(app, str) else {}
    keywords = Keywords({**named, **settings}, starts_processes=True)
    if isinstance(app, str) and (keywords.several or keywords.reload):
        status = _supervise(keywords, settings)
    elif keywords.several:
        raise ValueError('several workers need an import string: rsgi.run("module:app", workers=2)')
    elif keywords.reload:
        raise ValueError('reload needs an import string: rsgi.run("module:app", reload=True)')
    else:
        status = _run_here(app, keywords, settings)
    if status:
        sys.exit(status)


def _supervise(keywords: Keywords, settings: dict[str, Any]) -> int:
    import signal
    import threading

    from rsgi._logging import require_passable

    require_passable(settings)

    if threading.current_thread() is not threading.main_thread():
        return supervise_keywords(keywords, worker_command())
    # As in the command: Python's own handler would raise KeyboardInterrupt after everything has
    # been stopped in order.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return supervise_keywords(keywords, worker_command())
    finally:
        signal.signal(signal.SIGINT, before)


def _run_here(app: str | Callable[..., Any], keywords: Keywords, settings: dict[str, Any]) -> int:
    from rsgi._importer import ApplicationError
    from rsgi._on_start import run_function
    from rsgi._server import configure_logging, load_for
    from rsgi._serving import serve

    worker = Worker.alone(keywords)
    configure_logging(worker, settings)
    if not worker.bind():
        return worker.exit_status
    if worker.on_start is not None:
        try:
            run_function(worker.on_start, worker.app_dir)
        except ApplicationError as error:
            worker.fail(f"{worker.on_start} failed: {error}")
            return worker.exit_status
    application = load_for(worker, app)
    if application is None:
        return worker.exit_status
    worker.announce()
    return serve(worker, application)
