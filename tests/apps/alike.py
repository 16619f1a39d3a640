"""What shows how a server was set up: its scope, its environment, its limits.

Deliberately without anything of ours or uvicorn's: the same application runs under both.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tests.support.asgi import Receive, Scope, Send

#: Set by the program that starts the server.
MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="unset")

_waiting: list[asyncio.Event] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Do what the path says."""
    if scope["type"] == "lifespan":
        await _lifespan(scope, receive, send)
        return
    name = scope["path"].rpartition("/")[2]
    if scope["type"] == "websocket":
        await _websocket(receive, send)
    elif name == "hang":
        _say("hanging")
        await asyncio.Event().wait()
    elif name == "wait":
        event = asyncio.Event()
        _waiting.append(event)
        await event.wait()
        await _answer(send, b"waited")
    elif name == "broken":
        raise LookupError("as asked for")
    elif name == "waiting":
        await _answer(send, str(len(_waiting)).encode())
    elif name == "release":
        for event in _waiting:
            event.set()
        await _answer(send, b"")
    elif name == "length":
        length, more = 0, True
        while more:
            message = await receive()
            length += len(message.get("body", b""))
            more = message.get("more_body", False)
        await _answer(send, str(length).encode())
    else:
        await _answer(send, json.dumps(_about(scope)).encode())


def _about(scope: Scope) -> dict[str, Any]:
    def host(address: Any) -> Any:
        return address and address[0]

    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    return {
        "client": host(scope["client"]),
        "server": host(scope["server"]),
        "scheme": scope["scheme"],
        "path": scope["path"],
        "root_path": scope["root_path"],
        "asgi": scope["asgi"]["version"],
        "type": scope["type"],
        "state": scope.get("state", "absent"),
        "forwarded": headers.get("x-forwarded-for"),
        "pid": os.getpid(),
        "variable": os.environ.get("ALIKE"),
        "context": MARK.get(),
        "generation": GENERATION,
    }


#: Changed by the tests of `reload`, which serve a copy of this file.
GENERATION = 1


async def _lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    _say("startup")
    await receive()
    if os.environ.get("ALIKE") == "no start":
        raise RuntimeError("no start")
    scope["state"]["number"] = 1
    await send({"type": "lifespan.startup.complete"})
    await receive()
    _say("shutdown")
    await send({"type": "lifespan.shutdown.complete"})


async def _websocket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text == "close":
            await send({"type": "websocket.close", "code": 1000})
            return
        await send({"type": "websocket.send", "text": str(len(text or message["bytes"]))})
    _say(f"websocket closed with {message.get('code')}")


async def _answer(send: Send, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})


def _say(text: str) -> None:
    print("APP:", text, file=sys.stderr, flush=True)  # noqa: T201


class Callable3:
    """An application whose `__call__` returns an awaitable and is no coroutine function."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Return the application's coroutine."""
        return app(scope, receive, send)


callable3 = Callable3()


def asgi2(scope: Scope) -> Callable[[Receive, Send], Any]:
    """Serve by ASGI 2."""

    async def serve(receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return serve


def factory() -> Any:
    """Make the application."""
    return app


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve by WSGI."""
    start_response("200 OK", [("content-type", "text/plain")])
    return [environ["REQUEST_METHOD"].encode(), b" ", environ["PATH_INFO"].encode()]
