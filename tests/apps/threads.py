"""A quick answer, and one from the thread pool."""

from __future__ import annotations

import asyncio

from tests.support.asgi import Receive, Scope, Send

HEADERS = [(b"content-length", b"5")]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer `/quick` from the loop and `/thread` from a thread."""
    if scope["type"] != "http":
        raise RuntimeError("HTTP only")
    if scope["path"] == "/thread":
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(None, compute)
        headers = [(b"content-length", b"6")]
    else:
        body, headers = b"quick", HEADERS
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def compute() -> bytes:
    """Take a little of the interpreter's time."""
    sum(range(10_000))
    return b"thread"
