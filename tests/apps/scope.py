"""Answers with its scope as a Python literal, so that every type arrives as it was."""

from __future__ import annotations

from tests.apps.scenarios import answer
from tests.support.asgi import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the scope; put a mark into the state, for the next request to find or not."""
    if scope["type"] == "lifespan":
        await _lifespan(scope, receive, send)
        return
    await answer(send, repr(dict(scope)).encode())
    scope["state"]["mark"] = "left by a request"
    scope["state"]["shared"].append("left by a request")


async def _lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    scope["state"]["number"] = 1
    scope["state"]["shared"] = []
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
