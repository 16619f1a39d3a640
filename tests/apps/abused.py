"""An application with everything that a client can abuse."""

from __future__ import annotations

import asyncio

from tests.apps.scenarios import Scenarios, answer, chunk, start
from tests.support.asgi import Receive, Scope, Send

scenarios = Scenarios()


@scenarios.at("/hello")
async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once."""
    await answer(send, b"hello")


@scenarios.at("/upload")
async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    """Read everything."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message.get("more_body"):
            break
    await answer(send, b"thanks")


@scenarios.at("/download")
async def download(scope: Scope, receive: Receive, send: Send) -> None:
    """Send 64 MB in pieces, each of which takes memory of its own."""
    await start(send)
    for number in range(4096):
        await chunk(send, number.to_bytes(16384), more=number < 4095)


@scenarios.at("/work")
async def work(scope: Scope, receive: Receive, send: Send) -> None:
    """Take a moment, so that a request that is given up leaves an application behind."""
    await asyncio.sleep(0.05)
    await answer(send, b"done")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo a WebSocket's messages; everything else is a scenario."""
    if scope["type"] != "websocket":
        await scenarios(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message.get("bytes") or b""})
