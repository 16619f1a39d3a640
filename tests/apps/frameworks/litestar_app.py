"""Litestar. No postponed annotations: Litestar reads them at run time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from litestar import Litestar, Request, get, post
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import File, Response, Stream

from tests.apps.frameworks import journal

AnyRequest = Request[Any, Any, Any]


@post("/json", status_code=200)
async def echo_json(request: AnyRequest) -> dict[str, Any]:
    """Echo JSON."""
    return {"got": await request.json()}


@post("/form", status_code=200)
async def form(request: AnyRequest) -> dict[str, str]:
    """Echo a form."""
    return {name: str(value) for name, value in (await request.form()).items()}


@post("/upload", status_code=200, request_max_body_size=None)
async def upload(
    data: Annotated[dict[str, UploadFile], Body(media_type=RequestEncodingType.MULTI_PART)],
) -> dict[str, Any]:
    """Tell name and size of an uploaded file."""
    file = data["file"]
    return {"name": file.filename, "size": file.file.seek(0, 2)}


@get("/stream")
async def stream() -> Stream:
    """Stream five parts."""

    async def parts() -> AsyncIterator[str]:
        for tick in journal.TICKS:
            yield tick + "\n"
            await asyncio.sleep(0)

    return Stream(parts(), media_type="text/plain")


@get("/events")
async def events(key: str) -> Stream:
    """Send events until the client leaves."""

    async def ticks() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)
        finally:
            journal.note(key, "stream ended")

    return Stream(ticks(), media_type="text/event-stream")


@get("/background")
async def background(key: str) -> Response[dict[str, bool]]:
    """Answer, then work."""

    async def work() -> None:
        await asyncio.sleep(0.05)
        journal.note(key, "background done")

    return Response({"accepted": True}, background=BackgroundTask(work))


@get("/error")
async def error() -> None:
    """Raise."""
    raise RuntimeError("raised by the route")


@get("/sync", sync_to_thread=True)
def sync() -> dict[str, Any]:
    """Run in a thread."""
    return journal.thread_facts()


@get("/context")
async def context(name: str) -> dict[str, Any]:
    """Tell about the context."""
    return await journal.context_facts(name)


@get("/task")
async def task() -> dict[str, Any]:
    """Tell about the task."""
    return await journal.task_facts()


@get("/group")
async def group() -> dict[str, Any]:
    """Use a task group."""
    return await journal.group_facts()


@get("/file")
async def file(path: str) -> File:
    """Answer with a file."""
    return File(path)


@get("/journal")
async def show_journal(key: str) -> list[str]:
    """Show a journal."""
    return journal.entries.get(key, [])


@get("/lifespan")
async def show_lifespan() -> list[str]:
    """Show what the lifespan did."""
    return journal.lifespan


async def started() -> None:
    """Note the start."""
    journal.lifespan.append("started")


app = Litestar(
    [
        echo_json, form, upload, stream, events, background, error, sync, context, task, group,
        file, show_journal, show_lifespan,
    ],
    on_startup=[started],
)  # fmt: skip
