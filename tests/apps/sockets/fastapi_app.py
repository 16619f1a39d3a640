"""FastAPI."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Header, WebSocket, WebSocketDisconnect, WebSocketException

app = FastAPI()
ended: list[str] = []


def token(authorization: Annotated[str | None, Header()] = None) -> str:
    """Require a header."""
    if authorization is None:
        raise WebSocketException(code=1008)
    return authorization


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    """Echo JSON and bytes until the client leaves."""
    await websocket.accept(subprotocol="chat")
    try:
        await websocket.send_json(await websocket.receive_json())
        async for data in websocket.iter_bytes():
            await websocket.send_bytes(data)
        ended.append("")
    except WebSocketDisconnect as end:
        ended.append(f"{end.code} {end.reason}")


@app.websocket("/deny")
async def deny(websocket: WebSocket, authorization: Annotated[str, Depends(token)]) -> None:
    """Never get here without the header."""
    await websocket.accept()


@app.websocket("/end")
async def end(websocket: WebSocket) -> None:
    """Close with a code of its own."""
    await websocket.accept()
    await websocket.close(4000, "done")
