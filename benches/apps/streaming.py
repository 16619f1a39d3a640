"""A streamed response of unknown length: sixteen chunks of 4 KB, each its own message."""

from __future__ import annotations

from asgi import Message, Receive, Scope, Send, serve_lifespan

CHUNKS = 16
START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/octet-stream")],
}
CHUNK: Message = {"type": "http.response.body", "body": b"x" * 4096, "more_body": True}
END: Message = {"type": "http.response.body", "body": b""}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Stream 64 KB."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    await send(START)
    for _ in range(CHUNKS):
        await send(CHUNK)
    await send(END)
