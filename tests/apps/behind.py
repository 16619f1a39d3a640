"""A Starlette application that tells what it knows about its client."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket


async def about(request: Request) -> Response:
    """Answer with what links and logs are made of."""
    assert request.client is not None
    return JSONResponse(
        {
            "client": [request.client.host, request.client.port],
            "url": str(request.url),
            "base": str(request.base_url),
            "link": str(request.url_for("about")),
        }
    )


async def talk(websocket: WebSocket) -> None:
    """Send the same about a WebSocket."""
    await websocket.accept()
    client = websocket.client
    told = {"client": client and list(client), "url": str(websocket.url)}
    await websocket.send_json(told)
    await websocket.close()


inner = [Route("/about", about, name="about"), WebSocketRoute("/talk", talk)]
app = Starlette(routes=[*inner, Mount("/sub", routes=inner)])
