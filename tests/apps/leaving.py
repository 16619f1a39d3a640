"""Scenarios that make leaving hard: streams, hanging threads, a shutdown that never ends."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator

from tests.apps.scenarios import (
    Scenarios,
    answer_pid,
    chunk,
    for_ever,
    read_body,
    start,
    until_disconnect,
)
from tests.apps.stopping import say
from tests.support.asgi import Receive, Scope, Send

#: Longer than any test lasts.
HOUR = 3600

app = Scenarios()


@app.at("/pid")
async def pid(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the process."""
    await answer_pid(send)


@app.at("/events")
async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """Send events until the client is gone; then say goodbye."""
    await read_body(receive)
    await start(send, (b"content-type", b"text/event-stream"))
    await chunk(send, b"data: %d\n\n" % os.getpid())
    await until_disconnect(receive)
    say("told")
    await chunk(send, b"event: goodbye\n\n", more=False)


@app.at("/leaves")
async def leaves(scope: Scope, receive: Receive, send: Send) -> None:
    """Begin a response and return once the client is gone, as libraries for events do."""
    await read_body(receive)
    await start(send)
    await chunk(send, b"begun")
    await until_disconnect(receive)


@app.at("/deaf")
async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
    """Begin a response and never end it."""
    await start(send)
    await chunk(send, b"begun")
    say("started")
    try:
        await for_ever()
    except asyncio.CancelledError:
        say("cancelled")
        raise


@app.at("/two-seconds")
async def two_seconds(scope: Scope, receive: Receive, send: Send) -> None:
    """Begin a response, end it later, and listen all the while."""
    await read_body(receive)
    await start(send)
    await chunk(send, b"begun;")
    say("started")
    gone = asyncio.create_task(until_disconnect(receive))
    await asyncio.wait({gone}, timeout=2)
    await chunk(send, b"told" if gone.done() else b"ended", more=False)
    gone.cancel()


@app.at("/pool")
async def pool(scope: Scope, receive: Receive, send: Send) -> None:
    """Hang in a call of the thread pool."""
    say("started")
    await asyncio.to_thread(time.sleep, HOUR)


@app.at("/thread")
async def thread(scope: Scope, receive: Receive, send: Send) -> None:
    """Leave a thread behind that the interpreter waits for at its end."""
    threading.Thread(target=time.sleep, args=(HOUR,), daemon=False).start()
    await answer_pid(send)


@app.at("/generator")
async def generator(scope: Scope, receive: Receive, send: Send) -> None:
    """Leave a generator half-way that does not want to be closed."""

    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await for_ever()

    kept.append(stubborn())
    await anext(kept[-1])
    await answer_pid(send)


kept: list[AsyncIterator[int]] = []


async def never_stopping(scope: Scope, receive: Receive, send: Send) -> None:
    """Hang in the lifespan's shutdown."""
    if scope["type"] != "lifespan":
        await app(scope, receive, send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    say("stopping")
    await for_ever()
