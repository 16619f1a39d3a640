"""Serving from inside a program: `rsgi.Config` and `rsgi.Server`."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType, MappingProxyType
from typing import Any

from rsgi._event_loop import new_event_loop
from rsgi._importer import ApplicationError, load, take
from rsgi._native import Keywords, Worker
from rsgi._serving import take_reopening

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Config:
    """An application and the settings that it is served with.

    `app` is an ASGI application, or an import string such as `"main:app"`; `settings` are the
    command's options with underscores: `host="0.0.0.0"`, `port=8000`. Raises `ValueError` or
    `TypeError` for settings that are wrong.
    """

    def __init__(self, app: str | Callable[..., Any], **settings: Any) -> None:
        keywords = Keywords(settings)
        if keywords.several:
            raise ValueError(
                'a program serves with one worker; several need rsgi.run("module:app", workers=2)'
            )
        if settings.get("on_start"):
            raise ValueError("on_start is for rsgi.run() and the command: call the function first")
        if keywords.reload:
            raise ValueError(
                'a program cannot restart itself; use rsgi.run("module:app", reload=True)'
            )
        self._app = app
        self._settings = dict(settings)

    @property
    def app(self) -> str | Callable[..., Any]:
        """The application, or where to import it from."""
        return self._app

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings as they were given; what is not among them has its default."""
        return MappingProxyType(self._settings)

    def __repr__(self) -> str:
        """Show the application and the settings."""
        settings = "".join(f", {name}={value!r}" for name, value in self._settings.items())
        return f"Config({self._app!r}{settings})"


class Server:
    """One server in this process: it binds, serves, and can be told to stop.

    In a program with `asyncio`, on rsgi's event loop:

        server = rsgi.Server(rsgi.Config(app, port=8000))
        asyncio.run(server.serve(), loop_factory=rsgi.new_event_loop)

    Any other loop will do as well, at more processor time for a request: see `serve()`.

    In a test, on a thread of its own:

        with rsgi.Server(rsgi.Config(app, port=0)).run_in_thread() as server:
            httpx.get(f"http://127.0.0.1:{server.port}/")

    A server serves once.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._worker: Worker | None = None
        self._addresses: list[str] = []
        self._should_exit = False
        self._force_exit = False
        self._on_ready: Callable[[], None] = lambda: None

    @property
    def started(self) -> bool:
        """Whether connections are accepted, or have been."""
        return self._worker is not None and self._worker.has_started

    @property
    def should_exit(self) -> bool:
        """Whether the server has been told to stop; set it to stop gracefully, from any thread."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        if value and not self._should_exit:
            self._should_exit = True
            if self._worker is not None:
                self._worker.stop()

    @property
    def force_exit(self) -> bool:
        """Whether the server has been told to stop at once; may be set from any thread."""
        return self._force_exit

    @force_exit.setter
    def force_exit(self, value: bool) -> None:
        if value and not self._force_exit:
            self.should_exit = True
            self._force_exit = True
            if self._worker is not None:
                self._worker.stop()

    @property
    def exit_status(self) -> int:
        """What the command would exit with: 0, or 3 if the start failed."""
        return 0 if self._worker is None else self._worker.exit_status

    @property
    def addresses(self) -> list[str]:
        """Where the server listens, as URLs; empty before it has bound."""
        return list(self._addresses)

    @property
    def port(self) -> int:
        """The first TCP port that the server is bound to.

        Raises `RuntimeError` while there is none.
        """
        for address in self._addresses:
            port = address.rpartition(":")[2].rstrip("/")
            if port.isdigit():
                return int(port)
        raise RuntimeError("the server is not bound to a port")

    async def serve(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serve on the running event loop until told to stop.

        `sockets` are listened on in place of what the settings name, and are closed at the end, as
        uvicorn does. They have to be bound.

        On an `rsgi.EventLoop` everything happens in this thread. On any other loop (asyncio's own,
        uvloop's, Jupyter's) connections have a thread of their own, and every request crosses over
        and back: the same behaviour, but slower.

        On the main thread SIGINT and SIGTERM stop the server, and once it has stopped they are
        raised again for the program around it, as uvicorn does. A start that fails, also because an
        address cannot be bound, is logged and shows in `started` and `exit_status`.

        Cancelling it stops the server gracefully first; cancelling it once more, at once.
        """
        try:
            await self._serve(sockets)
        finally:
            for listener in sockets or ():
                listener.close()

    async def _serve(self, sockets: Sequence[socket.socket] | None) -> None:
        event_loop = asyncio.get_running_loop()
        with self.capture_signals():
            worker = self._make_worker()
            if not worker.bind(None if sockets is None else [it.fileno() for it in sockets]):
                return
            self._addresses = worker.addresses
            application = load_for(worker, self.config.app)
            if application is None:
                return
            if self._should_exit:
                worker.stop()
            worker.announce()
            own: asyncio.Future[None] = event_loop.create_future()
            bridged = worker.serve(
                event_loop, application, self._on_ready, partial(_settle_soon, own)
            )
            ended = own if bridged is None else bridged
            # Before anybody who waits for it hears of it.
            ended.add_done_callback(lambda _ended: worker.join())
            try:
                await self._until(ended)
            finally:
                if not ended.done():  # this coroutine is thrown away, most likely with its loop
                    self.force_exit = True

    async def _until(self, ended: asyncio.Future[None]) -> None:
        cancelled: asyncio.CancelledError | None = None
        while not ended.done():
            try:
                await asyncio.shield(ended)
            except asyncio.CancelledError as error:
                if cancelled is None:
                    self.should_exit = True
                else:
                    self.force_exit = True
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def run(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serve on an event loop of its own until told to stop; see `serve()`."""
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self.serve(sockets))

    @contextmanager
    def run_in_thread(self) -> Iterator[Server]:
        """Serve on another thread while the `with` block runs.

        The block begins when connections are accepted. Raises `RuntimeError` if the start fails,
        or what `serve()` raised.
        """
        ready = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                self.run()
            except BaseException as error:
                failures.append(error)
            finally:
                ready.set()

        self._on_ready = ready.set
        thread = threading.Thread(target=run, name="rsgi")
        thread.start()
        try:
            ready.wait()
            if failures:
                raise failures[0]
            if not self.started:
                raise RuntimeError(self._why_not_started())
            yield self
        finally:
            self.should_exit = True
            thread.join()

    def _make_worker(self) -> Worker:
        if self._worker is not None:
            raise RuntimeError("this server has served already")
        named = {"app": self.config.app} if isinstance(self.config.app, str) else {}
        self._worker = Worker.alone(Keywords({**named, **self.config.settings}))
        configure_logging(self._worker, self.config.settings)
        return self._worker

    def _why_not_started(self) -> str:
        cause = self._worker.failure if self._worker is not None else None
        return f"the server did not start: {cause or f'exit status {self.exit_status}'}"

    def _reopen_logs(self) -> None:
        if self._worker is not None:
            self._worker.reopen_logs()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM stop the server, and raise them again once it has stopped.

        `serve()` does so on the main thread; a subclass that has signals of its own overrides it.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        captured: list[int] = []

        def stop(number: int, _frame: FrameType | None) -> None:
            captured.append(number)
            if self._should_exit:
                self.force_exit = True
            self.should_exit = True

        before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
        before |= take_reopening(self._reopen_logs)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        for taken in reversed(captured):
            signal.raise_signal(taken)


def configure_logging(worker: Worker, settings: Mapping[str, Any]) -> None:
    """Configure Python's `logging`, if the settings say so.

    Raises `ValueError` if that cannot be done.
    """
    if worker.logging is None:
        return
    from rsgi._logging import LoggingError, configure, objects

    try:
        configure(worker, objects(settings))
    except LoggingError as error:
        raise ValueError(str(error)) from error


def load_for(worker: Worker, app: str | Callable[..., Any]) -> Callable[..., Any] | None:
    """Return the application that a worker is to serve; log why there is none."""
    try:
        if worker.target is not None:
            return load(worker)
        made = app() if worker.factory and callable(app) else app
        return take(made, repr(app), worker)
    except ApplicationError as error:
        worker.fail(f"Error loading ASGI app: {error}")
        return None


async def serve(app: str | Callable[..., Any], **settings: Any) -> None:
    """Serve `app` on the running event loop until this is cancelled, SIGINT or SIGTERM.

    For a program that has a loop already and wants a server beside what else it does:

        task = asyncio.create_task(rsgi.serve(app, port=8000))

    `settings` are those of `rsgi.run()`, for one worker. `Server.serve()` says more, and `Server`
    has the port and can be told to stop. Raises `RuntimeError` if the start fails, and `ValueError`
    or `TypeError` for settings that are wrong.
    """
    server = Server(Config(app, **settings))
    await server.serve()
    if server.exit_status and not server.started:
        raise RuntimeError(server._why_not_started())


def _settle_soon(ended: asyncio.Future[None]) -> None:
    # The end comes from within `select()`, and a loop does not look behind its own back.
    with suppress(RuntimeError):  # the loop is closed, and nobody waits
        ended.get_loop().call_soon_threadsafe(_settle, ended)


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
