"""Many small applications behind one: the path is the scenario, the query names its journal.

A scenario notes what happened to it; the test asks `GET /journal?<key>` afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable

from tests.support.asgi import Handler, Message, Receive, Scope, Send

Fields = Iterable[tuple[bytes, bytes]]


class ClientLeft(Exception):  # noqa: N818 (nothing is wrong)
    """The client went away while a scenario read its body."""


class Scenarios:
    """An ASGI application that dispatches by path."""

    def __init__(self) -> None:
        """Start with nothing but the journal."""
        self._handlers: dict[str, Handler] = {"/journal": self._show_journal}
        self._journals: defaultdict[str, list[str]] = defaultdict(list)

    def at(self, path: str) -> Callable[[Handler], Handler]:
        """Register a scenario."""

        def register(handler: Handler) -> Handler:
            assert path not in self._handlers
            self._handlers[path] = handler
            return handler

        return register

    def note(self, scope: Scope, entry: object) -> None:
        """Write into the journal of this request."""
        self._journals[scope["query_string"].decode()].append(str(entry))

    def entries(self, scope: Scope) -> list[str]:
        """Return the journal of this request."""
        return self._journals[scope["query_string"].decode()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the scenario."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send)
            return
        handler = self._handlers.get(scope["path"])
        if handler is None:
            await answer(send, b"no such scenario", status=404)
            return
        with contextlib.suppress(ClientLeft):
            await handler(scope, receive, send)

    async def _show_journal(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer_json(send, self.entries(scope))


async def serve_lifespan(receive: Receive, send: Send) -> None:
    """Answer start-up and shutdown, doing nothing."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def start(send: Send, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    """Send `http.response.start`."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def chunk(send: Send, body: bytes, more: bool = True) -> None:
    """Send `http.response.body`."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def answer(
    send: Send, body: bytes = b"", *headers: tuple[bytes, bytes], status: int = 200
) -> None:
    """Send a whole response with its length."""
    await start(send, (b"content-length", b"%d" % len(body)), *headers, status=status)
    await chunk(send, body, more=False)


async def answer_json(send: Send, value: object) -> None:
    """Send a value as JSON."""
    await answer(send, json.dumps(value).encode(), (b"content-type", b"application/json"))


async def answer_pid(send: Send) -> None:
    """Send the process id."""
    await answer(send, str(os.getpid()).encode())


async def read_body(receive: Receive) -> bytes:
    """Read the request body to its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def until_disconnect(receive: Receive) -> Message:
    """Receive until the client is gone; return that message."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return message


async def for_ever() -> None:
    """Wait until cancelled."""
    await asyncio.Event().wait()
