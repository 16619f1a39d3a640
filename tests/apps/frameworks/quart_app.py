"""Quart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, Response, request, send_file
from quart.typing import ResponseReturnValue

from tests.apps.frameworks import journal

app = Quart(__name__)
app.config["MAX_CONTENT_LENGTH"] = None


@app.before_serving
async def started() -> None:
    """Note the start."""
    journal.lifespan.append("started")


@app.post("/json")
async def echo_json() -> dict[str, Any]:
    """Echo JSON."""
    return {"got": await request.get_json()}


@app.post("/form")
async def form() -> dict[str, str]:
    """Echo a form."""
    return dict((await request.form).items())


@app.post("/upload")
async def upload() -> dict[str, Any]:
    """Tell name and size of an uploaded file."""
    file = (await request.files)["file"]
    return {"name": file.filename, "size": file.stream.seek(0, 2)}


@app.get("/stream")
async def stream() -> ResponseReturnValue:
    """Stream five parts."""

    async def parts() -> AsyncIterator[bytes]:
        for tick in journal.TICKS:
            yield tick.encode() + b"\n"
            await asyncio.sleep(0)

    return Response(parts(), content_type="text/plain")


@app.get("/events")
async def events() -> ResponseReturnValue:
    """Send events until the client leaves."""
    key = request.args["key"]

    async def ticks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"data: tick\n\n"
                await asyncio.sleep(0.01)
        finally:
            journal.note(key, "stream ended")

    return Response(ticks(), content_type="text/event-stream")


@app.get("/background")
async def background() -> dict[str, bool]:
    """Answer, then work."""
    key = request.args["key"]

    async def work() -> None:
        await asyncio.sleep(0.05)
        journal.note(key, "background done")

    app.add_background_task(work)
    return {"accepted": True}


@app.get("/error")
async def error() -> ResponseReturnValue:
    """Raise."""
    raise RuntimeError("raised by the route")


@app.get("/sync")
def sync() -> dict[str, Any]:
    """Run in a thread."""
    return journal.thread_facts()


@app.get("/context")
async def context() -> dict[str, Any]:
    """Tell about the context."""
    return await journal.context_facts(request.args["name"])


@app.get("/task")
async def task() -> dict[str, Any]:
    """Tell about the task."""
    return await journal.task_facts()


@app.get("/group")
async def group() -> dict[str, Any]:
    """Use a task group."""
    return await journal.group_facts()


@app.get("/file")
async def file() -> ResponseReturnValue:
    """Answer with a file."""
    return await send_file(request.args["path"], conditional=True)


@app.get("/journal")
async def show_journal() -> list[str]:
    """Show a journal."""
    return journal.entries.get(request.args["key"], [])


@app.get("/lifespan")
async def show_lifespan() -> list[str]:
    """Show what the lifespan did."""
    return journal.lifespan
