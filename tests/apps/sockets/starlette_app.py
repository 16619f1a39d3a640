"""Starlette."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

ended: list[str] = []


async def echo(websocket: WebSocket) -> None:
    """Echo JSON and bytes until the client leaves."""
    await websocket.accept(subprotocol="chat")
    try:
        await websocket.send_json(await websocket.receive_json())
        while True:
            await websocket.send_bytes(await websocket.receive_bytes())
    except WebSocketDisconnect as end:
        ended.append(f"{end.code} {end.reason}")


async def deny(websocket: WebSocket) -> None:
    """Deny with a response."""
    await websocket.send_denial_response(PlainTextResponse("denied", 401))


async def end(websocket: WebSocket) -> None:
    """Close with a code of its own."""
    await websocket.accept()
    await websocket.close(4000, "done")


async def last_end(websocket: WebSocket) -> None:
    """Tell how the last one ended."""
    await websocket.accept()
    await websocket.send_text(ended[-1] if ended else "")


app = Starlette(
    routes=[
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/deny", deny),
        WebSocketRoute("/end", end),
        WebSocketRoute("/last-end", last_end),
    ]
)
