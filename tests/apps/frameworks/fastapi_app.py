"""FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import BackgroundTasks, Body, FastAPI, Form, UploadFile
from fastapi.responses import StreamingResponse

from tests.apps.frameworks import journal


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Note the start."""
    journal.lifespan.append("started")
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/json")
async def echo_json(value: Annotated[Any, Body()]) -> dict[str, Any]:
    """Echo JSON."""
    return {"got": value}


@app.post("/form")
async def form(name: Annotated[str, Form()], colour: Annotated[str, Form()]) -> dict[str, str]:
    """Echo a form."""
    return {"name": name, "colour": colour}


@app.post("/upload")
async def upload(file: UploadFile) -> dict[str, Any]:
    """Tell name and size of an uploaded file."""
    return {"name": file.filename, "size": file.size}


@app.get("/stream")
async def stream() -> StreamingResponse:
    """Stream five parts."""

    async def parts() -> AsyncIterator[str]:
        for tick in journal.TICKS:
            yield tick + "\n"
            await asyncio.sleep(0)

    return StreamingResponse(parts(), media_type="text/plain")


@app.get("/events")
async def events(key: str) -> StreamingResponse:
    """Send events until the client leaves."""

    async def ticks() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)
        finally:
            journal.note(key, "stream ended")

    return StreamingResponse(ticks(), media_type="text/event-stream")


@app.get("/background")
async def background(key: str, tasks: BackgroundTasks) -> dict[str, bool]:
    """Answer, then work."""

    async def work() -> None:
        await asyncio.sleep(0.05)
        journal.note(key, "background done")

    tasks.add_task(work)
    return {"accepted": True}


@app.get("/error")
async def error() -> None:
    """Raise."""
    raise RuntimeError("raised by the route")


@app.get("/sync")
def sync() -> dict[str, Any]:
    """Run in a thread."""
    return journal.thread_facts()


@app.get("/context")
async def context(name: str) -> dict[str, Any]:
    """Tell about the context."""
    return await journal.context_facts(name)


@app.get("/task")
async def task() -> dict[str, Any]:
    """Tell about the task."""
    return await journal.task_facts()


@app.get("/group")
async def group() -> dict[str, Any]:
    """Use a task group."""
    return await journal.group_facts()


@app.get("/journal")
async def show_journal(key: str) -> list[str]:
    """Show a journal."""
    return journal.entries.get(key, [])


@app.get("/lifespan")
async def show_lifespan() -> list[str]:
    """Show what the lifespan did."""
    return journal.lifespan
