"""A WebSocket that sends everything back: what a message costs."""

from __future__ import annotations

from asgi import Message, Receive, Scope, Send, answer, serve_lifespan


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo binary messages."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    if scope["type"] == "http":
        await answer(send, b"WebSocket")
        return
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message: Message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "bytes": message["bytes"]})
