"""Scenarios about too much to do: requests that are held, and requests that never end."""

from __future__ import annotations

import asyncio
import os
import time

from tests.apps.scenarios import Scenarios, answer, chunk, for_ever, start
from tests.support.asgi import Receive, Scope, Send

app = Scenarios()
_open_files: list[int] = []


@app.at("/hello")
async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once."""
    await answer(send, b"hello")


@app.at("/pid")
async def pid(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the worker's process."""
    await answer(send, str(os.getpid()).encode())


@app.at("/held")
async def held(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the content, once all of it is there."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await answer(send, body)


@app.at("/noted")
async def noted(scope: Scope, receive: Receive, send: Send) -> None:
    """Note the header `x-number`, and answer with the content."""
    app.note(scope, dict(scope["headers"])[b"x-number"].decode())
    await held(scope, receive, send)


@app.at("/hang")
async def hang(scope: Scope, receive: Receive, send: Send) -> None:
    """Never answer; note how it ended."""
    try:
        await for_ever()
    except asyncio.CancelledError:
        app.note(scope, "cancelled")
        raise


@app.at("/hang-within")
async def hang_within(scope: Scope, receive: Receive, send: Send) -> None:
    """Begin to answer, and stop."""
    await start(send)
    await chunk(send, b"begun")
    await hang(scope, receive, send)


@app.at("/hang-and-send")
async def hang_and_send(scope: Scope, receive: Receive, send: Send) -> None:
    """Take no notice of being cancelled, and answer; note what became of it."""
    try:
        await for_ever()
    except asyncio.CancelledError:
        try:
            await answer(send, b"late")
        except OSError as error:
            app.note(scope, type(error).__name__)


@app.at("/tick")
async def tick(scope: Scope, receive: Receive, send: Send) -> None:
    """Send something every fifth of a second, for two seconds."""
    await start(send)
    for _ in range(10):
        await chunk(send, b".")
        await asyncio.sleep(0.2)
    await chunk(send, b"", more=False)


@app.at("/thread")
async def thread(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait for a thread that cannot be cancelled."""
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, 2.0)
    await answer(send, b"late")


@app.at("/take-files-for-a-while")
async def take_files_for_a_while(scope: Scope, receive: Receive, send: Send) -> None:
    """Open all the files that the process may, and close them after three seconds."""
    await answer(send, b"soon")
    while True:
        try:
            _open_files.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            break
    app.note(scope, "taken")
    await asyncio.sleep(3)
    while _open_files:
        os.close(_open_files.pop())


async def with_sockets(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept every WebSocket; everything else is a scenario."""
    if scope["type"] != "websocket":
        await app(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
