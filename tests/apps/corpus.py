"""Answers with what it understood of a request, as a Python literal."""

from __future__ import annotations

import contextlib

from tests.apps.scenarios import ClientLeft, answer, read_body, serve_lifespan
from tests.support.asgi import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, then tell."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    with contextlib.suppress(ClientLeft):
        understood = {
            "method": scope["method"],
            "path": scope["raw_path"],
            "query": scope["query_string"],
            "version": scope["http_version"],
            "fields": [(name, value) for name, value in scope["headers"]],
            "body": await read_body(receive),
        }
        await answer(send, repr(understood).encode())
