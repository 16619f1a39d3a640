"""Answers every request, whatever its path, with the body that came."""

from __future__ import annotations

import contextlib

from tests.apps.scenarios import ClientLeft, answer, read_body, serve_lifespan
from tests.support.asgi import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    with contextlib.suppress(ClientLeft):
        await answer(send, await read_body(receive))
