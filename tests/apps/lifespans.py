"""Applications with different lifespans; each says on standard error what it went through."""

from __future__ import annotations

import asyncio
import sys

from tests.apps.scenarios import answer, for_ever
from tests.support.asgi import Receive, Scope, Send


def say(text: str) -> None:
    """Write a line the test waits for."""
    sys.stderr.write(f"APP: {text}\n")
    sys.stderr.flush()


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/second":
        say("request started")
        await asyncio.sleep(1)
        say("request ended")
    await answer(send, repr(scope.get("state")).encode())


async def ordinary(scope: Scope, receive: Receive, send: Send) -> None:
    """Start and stop in order."""
    if scope["type"] != "lifespan":
        await _answer(scope, receive, send)
        return
    say(f"scope {sorted(scope)} {scope['asgi']}")
    message = await receive()
    say(f"{dict(message)}")
    scope["state"]["answer"] = 42
    await send({"type": "lifespan.startup.complete"})
    message = await receive()
    say(f"{dict(message)}")
    await send({"type": "lifespan.shutdown.complete"})
    say("left")


async def unaware(scope: Scope, receive: Receive, send: Send) -> None:
    """Know nothing but HTTP."""
    if scope["type"] != "http":
        raise NotImplementedError(f"no {scope['type']} here")
    await _answer(scope, receive, send)


async def returning(scope: Scope, receive: Receive, send: Send) -> None:
    """Return from the lifespan without a word."""
    if scope["type"] == "http":
        await _answer(scope, receive, send)


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    """Report that the start-up failed."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database today"})


async def failing_without_message(scope: Scope, receive: Receive, send: Send) -> None:
    """Report that the start-up failed, and not why."""
    await receive()
    await send({"type": "lifespan.startup.failed"})


async def raising_after_receive(scope: Scope, receive: Receive, send: Send) -> None:
    """Take the start-up message and raise."""
    if scope["type"] == "http":
        await _answer(scope, receive, send)
        return
    await receive()
    raise RuntimeError("the start-up went wrong")


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Take a while to start and to stop."""
    if scope["type"] != "lifespan":
        await _answer(scope, receive, send)
        return
    await receive()
    await asyncio.sleep(0.5)
    say("started")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    say("stopping")
    await asyncio.sleep(0.5)
    say("stopped")
    await send({"type": "lifespan.shutdown.complete"})


async def failing_shutdown(scope: Scope, receive: Receive, send: Send) -> None:
    """Report that the shutdown failed."""
    if scope["type"] != "lifespan":
        await _answer(scope, receive, send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "cannot let go"})


async def raising_shutdown(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise in the shutdown."""
    if scope["type"] != "lifespan":
        await _answer(scope, receive, send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    raise RuntimeError("the shutdown went wrong")


async def never_starting(scope: Scope, receive: Receive, send: Send) -> None:
    """Never finish the start-up."""
    say("starting")
    await for_ever()


async def with_task(scope: Scope, receive: Receive, send: Send) -> None:
    """Keep a task alive from start-up to shutdown, and use it from requests."""
    if scope["type"] != "lifespan":
        await answer(send, str(scope["state"]["ticks"][0]).encode())
        return
    await receive()
    ticks = scope["state"]["ticks"] = [0]

    async def tick() -> None:
        while True:
            ticks[0] += 1
            await asyncio.sleep(0.01)

    task = asyncio.create_task(tick())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    task.cancel()
    await asyncio.wait({task})
    await send({"type": "lifespan.shutdown.complete"})
