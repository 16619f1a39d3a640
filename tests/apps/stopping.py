"""Scenarios for a server that stops while requests run; they report on standard error."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from tests.apps.scenarios import Scenarios, answer, answer_pid, chunk, for_ever, start
from tests.support.asgi import Receive, Scope, Send

app = Scenarios()
#: What the application does not give back.
KEPT: list[bytearray] = []


def say(text: str) -> None:
    """Write a line the test waits for."""
    sys.stderr.write(f"APP: {text}\n")
    sys.stderr.flush()


@app.at("/pid")
async def pid(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the process."""
    await answer_pid(send)


@app.at("/second")
async def one_second(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer after a second."""
    say("started")
    await asyncio.sleep(1)
    await answer(send, b"finished")


@app.at("/streamed-second")
async def streamed_second(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a first chunk now and the last one after a second."""
    await start(send)
    await chunk(send, b"first;")
    await asyncio.sleep(1)
    await chunk(send, b"last", more=False)


@app.at("/sse")
async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """Send events without end; say how it ended."""
    await start(send, (b"content-type", b"text/event-stream"))
    try:
        while True:
            await chunk(send, b"data: tick\n\n")
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        say("stream cancelled")
        raise
    except OSError:
        say("stream disconnected")


@app.at("/hang")
async def hang(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait for ever; say so when cancelled."""
    say("started")
    try:
        await for_ever()
    except asyncio.CancelledError:
        say("cancelled")
        raise


@app.at("/stubborn")
async def ignore_cancellation(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait for ever, whatever happens."""
    say("started")
    while True:
        try:
            await for_ever()
        except asyncio.CancelledError:
            say("ignored")


@app.at("/grow")
async def grow(scope: Scope, receive: Receive, send: Send) -> None:
    """Keep as many megabytes more as the query says."""
    KEPT.append(bytearray(b"x") * (int(scope["query_string"]) << 20))
    await answer_pid(send)


@app.at("/orphans")
async def leave_orphans(scope: Scope, receive: Receive, send: Send) -> None:
    """Start processes that outlive their parent for a moment, and end as a failed worker does."""
    script = "(exit 3) & (sleep 0.1; exit 3) & (sleep 0.2; kill -9 $$) & exit 0"
    process = await asyncio.create_subprocess_exec("sh", "-c", script)
    await process.wait()
    await answer_pid(send)


@app.at("/block")
async def block(scope: Scope, receive: Receive, send: Send) -> None:
    """Block the event loop for 200 ms, as a wrongly written handler does."""
    say("blocking")
    time.sleep(0.2)  # noqa: ASYNC251 (this is the fault under test)
    await answer_pid(send)


@app.at("/block-until")
async def block_until(scope: Scope, receive: Receive, send: Send) -> None:
    """Block the event loop until the file exists that the query names."""
    say("blocking")
    while not os.path.exists(scope["query_string"].decode()):  # noqa: ASYNC240 (the fault, too)
        time.sleep(0.05)  # noqa: ASYNC251 (this is the fault under test)
    await answer_pid(send)
