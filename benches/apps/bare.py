"""The smallest ASGI application: what the server itself costs."""

from __future__ import annotations

from asgi import Message, Receive, Scope, Send, serve_lifespan

START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"12")],
}
BODY: Message = {"type": "http.response.body", "body": b"Hello world!"}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer everything with twelve bytes."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    await send(START)
    await send(BODY)
