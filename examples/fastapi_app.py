"""A small FastAPI application: `rsgi --workers 2 examples.fastapi_app:app`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI(title="rsgi example")


@app.get("/")
async def index() -> dict[str, str]:
    """Return a greeting."""
    return {"hello": "world"}


@app.get("/items/{item_id}")
async def item(item_id: int, q: str | None = None) -> dict[str, int | str | None]:
    """Return what was asked for."""
    return {"item_id": item_id, "q": q}


@app.get("/blocking")
def blocking() -> dict[str, str]:
    """Run in the thread pool, as every endpoint that is not `async` does."""
    return {"ran": "in a thread"}


@app.get("/events")
async def events() -> StreamingResponse:
    """Stream three server-sent events, a second apart."""

    async def stream() -> AsyncIterator[str]:
        for number in range(3):
            yield f"data: {number}\n\n"
            await asyncio.sleep(1)

    return StreamingResponse(stream(), media_type="text/event-stream")
