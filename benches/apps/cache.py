"""One redis `GET` per request through redis-py: an application that does its own I/O."""

from __future__ import annotations

import os

from asgi import Receive, Scope, Send, answer, serve_lifespan
from redis.asyncio import Redis

client = Redis.from_url(os.environ["BENCH_REDIS_URL"])


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the value of one key."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    value = await client.get("greeting")
    await answer(send, value if isinstance(value, bytes) else b"missing")
