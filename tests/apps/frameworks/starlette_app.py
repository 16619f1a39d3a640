"""Starlette."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.apps.frameworks import journal


async def echo_json(request: Request) -> Response:
    """Echo JSON."""
    return JSONResponse({"got": await request.json()})


async def form(request: Request) -> Response:
    """Echo a form."""
    return JSONResponse({name: str(value) for name, value in (await request.form()).items()})


async def upload(request: Request) -> Response:
    """Tell name and size of an uploaded file."""
    async with request.form() as form:
        file = form["file"]
        assert isinstance(file, UploadFile)
        return JSONResponse({"name": file.filename, "size": file.size})


async def stream(request: Request) -> Response:
    """Stream five parts."""

    async def parts() -> AsyncIterator[str]:
        for tick in journal.TICKS:
            yield tick + "\n"
            await asyncio.sleep(0)

    return StreamingResponse(parts(), media_type="text/plain")


async def events(request: Request) -> Response:
    """Send events until the client leaves."""
    key = request.query_params["key"]

    async def ticks() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)
        finally:
            journal.note(key, "stream ended")

    return StreamingResponse(ticks(), media_type="text/event-stream")


async def background(request: Request) -> Response:
    """Answer, then work."""
    key = request.query_params["key"]

    async def work() -> None:
        await asyncio.sleep(0.05)
        journal.note(key, "background done")

    return JSONResponse({"accepted": True}, background=BackgroundTask(work))


async def error(request: Request) -> Response:
    """Raise."""
    raise RuntimeError("raised by the route")


def sync(request: Request) -> Response:
    """Run in a thread."""
    return JSONResponse(journal.thread_facts())


async def context(request: Request) -> Response:
    """Tell about the context."""
    return JSONResponse(await journal.context_facts(request.query_params["name"]))


async def task(request: Request) -> Response:
    """Tell about the task."""
    return JSONResponse(await journal.task_facts())


async def group(request: Request) -> Response:
    """Use a task group."""
    return JSONResponse(await journal.group_facts())


async def file(request: Request) -> Response:
    """Answer with a file."""
    return FileResponse(request.query_params["path"])


async def show_journal(request: Request) -> Response:
    """Show a journal."""
    return JSONResponse(journal.entries.get(request.query_params["key"], []))


async def show_lifespan(request: Request) -> Response:
    """Show what the lifespan did."""
    return JSONResponse(journal.lifespan)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Note the start."""
    journal.lifespan.append("started")
    yield


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/json", echo_json, methods=["POST"]),
        Route("/form", form, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream", stream),
        Route("/events", events),
        Route("/background", background),
        Route("/error", error),
        Route("/sync", sync),
        Route("/context", context),
        Route("/task", task),
        Route("/group", group),
        Route("/file", file),
        Route("/journal", show_journal),
        Route("/lifespan", show_lifespan),
    ],
)
