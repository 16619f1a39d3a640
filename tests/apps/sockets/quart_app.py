"""Quart."""

from __future__ import annotations

from quart import Quart, abort, websocket

app = Quart(__name__)


@app.websocket("/echo")
async def echo() -> None:
    """Echo JSON and bytes until the client leaves."""
    await websocket.accept(subprotocol="chat")
    await websocket.send_json(await websocket.receive_json())
    while True:
        await websocket.send(await websocket.receive())


@app.websocket("/deny")
async def deny() -> None:
    """Deny with a response."""
    abort(401)


@app.websocket("/end")
async def end() -> None:
    """Close with a code of its own."""
    await websocket.accept()
    await websocket.close(4000, "done")
