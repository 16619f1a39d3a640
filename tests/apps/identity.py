"""Who the worker is, and what it was started with."""

from __future__ import annotations

import os

from tests.apps.scenarios import answer_json, serve_lifespan
from tests.support.asgi import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the process's ids and variables."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    about = {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": os.getgroups(),
        "variables": sorted(os.environ),
    }
    await answer_json(send, about)
