"""WSGI applications, by `a2wsgi`, with what a server knows better: when the client has gone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from a2wsgi.wsgi import WSGIMiddleware, WSGIResponder

from rsgi._native import ClientDisconnected

#: What a WSGI application is, in short.
WsgiCallable = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class WsgiApplication(WSGIMiddleware):
    """An ASGI application over a WSGI one, each call of which has a thread."""

    def __init__(self, application: WsgiCallable, threads: int) -> None:
        """Wrap an application, of which so many calls run at once."""

        def with_our_environ(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            # Standard output is the access log's.
            environ["wsgi.errors"] = sys.stderr
            environ["SERVER_SOFTWARE"] = "rsgi"
            # It ends where the content does. Without this Werkzeug reads no content in chunks.
            environ["wsgi.input_terminated"] = True
            return application(environ, start_response)

        super().__init__(with_our_environ, workers=threads)  # type: ignore[arg-type]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one scope."""
        if scope["type"] == "http":
            responder = _Responder(self.app, self.executor, self.send_queue_size)
            await responder(scope, _unless_gone(receive), send)
        else:
            await super().__call__(scope, receive, send)


class _Responder(WSGIResponder):
    """One call, whose thread is told of a client that has gone by an exception.

    Otherwise it would wait for ever for room in a queue that nobody reads.
    """

    _is_gone = False

    async def sender(self, send: Any) -> None:
        try:
            await super().sender(send)
        except ClientDisconnected:
            self._is_gone = True
            # Whoever waits for room gets it, and hears of it with the next piece.
            while await self.send_queue.get() is not None:
                pass

    def send(self, message: Any) -> None:
        if self._is_gone:
            raise ClientDisconnected("the client has gone")
        super().send(message)


def _unless_gone(receive: Any) -> Any:
    """Return a `receive` that raises where the content ends too early, instead of cutting it."""

    async def receive_content() -> Any:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected("the client has gone")
        return message

    return receive_content
