"""Large bodies: `GET /<bytes>` sends that many, `POST /` answers with the number it read."""

from __future__ import annotations

from asgi import Receive, Scope, Send, answer, serve_lifespan

SIZES = (64 * 1024, 10 * 1024 * 1024)
BODIES = {f"/{size}": b"x" * size for size in SIZES}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a large body, or count one."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
    elif scope["method"] == "POST":
        total = 0
        more = True
        while more:
            message = await receive()
            total += len(message.get("body", b""))
            more = message.get("more_body", False)
        await answer(send, b"%d" % total)
    else:
        await answer(send, BODIES[scope["path"]])
