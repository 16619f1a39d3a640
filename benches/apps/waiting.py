"""What the event loop costs: give way five times, ask a thread, or block everybody."""

from __future__ import annotations

import asyncio
import time

from asgi import Receive, Scope, Send, answer, serve_lifespan

YIELDS = 5
BLOCK_SECONDS = 0.2


def work() -> bytes:
    """Do next to nothing: the way to the thread and back is what counts."""
    return b"done"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait in the way the path names, then answer."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    body = b"done"
    match scope["path"]:
        case "/sleep":
            for _ in range(YIELDS):
                await asyncio.sleep(0)
        case "/executor":
            body = await asyncio.get_running_loop().run_in_executor(None, work)
        case "/block":
            time.sleep(BLOCK_SECONDS)  # noqa: ASYNC251 - the mistake this path stands for
        case _:
            pass
    await answer(send, body)
