"""Django over ASGI, in a single file. Django has no lifespan and no background tasks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

from django.conf import settings  # type: ignore[import-untyped]
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
from django.http import (  # type: ignore[import-untyped]
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path  # type: ignore[import-untyped]

from tests.apps.frameworks import journal

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests only",
    MIDDLEWARE=[],
    LOGGING_CONFIG=None,
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
)


async def echo_json(request: HttpRequest) -> HttpResponse:
    """Echo JSON."""
    return JsonResponse({"got": json.loads(request.body)})


async def form(request: HttpRequest) -> HttpResponse:
    """Echo a form."""
    return JsonResponse(request.POST.dict())


async def upload(request: HttpRequest) -> HttpResponse:
    """Tell name and size of an uploaded file."""
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": file.size})


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Stream five parts."""

    async def parts() -> AsyncIterator[str]:
        for tick in journal.TICKS:
            yield tick + "\n"
            await asyncio.sleep(0)

    return StreamingHttpResponse(parts(), content_type="text/plain")


async def events(request: HttpRequest) -> StreamingHttpResponse:
    """Send events until the client leaves."""
    key = request.GET["key"]

    async def ticks() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)
        finally:
            journal.note(key, "stream ended")

    return StreamingHttpResponse(ticks(), content_type="text/event-stream")


async def error(request: HttpRequest) -> HttpResponse:
    """Raise."""
    raise RuntimeError("raised by the route")


def sync(request: HttpRequest) -> HttpResponse:
    """Run in a thread."""
    return JsonResponse(journal.thread_facts())


async def context(request: HttpRequest) -> HttpResponse:
    """Tell about the context."""
    return JsonResponse(await journal.context_facts(request.GET["name"]))


async def task(request: HttpRequest) -> HttpResponse:
    """Tell about the task."""
    return JsonResponse(await journal.task_facts())


async def group(request: HttpRequest) -> HttpResponse:
    """Use a task group."""
    return JsonResponse(await journal.group_facts())


def file(request: HttpRequest) -> FileResponse:
    """Answer with a file."""
    return FileResponse(Path(request.GET["path"]).open("rb"))


async def show_journal(request: HttpRequest) -> HttpResponse:
    """Show a journal."""
    return JsonResponse(journal.entries.get(request.GET["key"], []), safe=False)


urlpatterns = [
    path("json", echo_json),
    path("form", form),
    path("upload", upload),
    path("stream", stream),
    path("events", events),
    path("error", error),
    path("sync", sync),
    path("context", context),
    path("task", task),
    path("group", group),
    path("file", file),
    path("journal", show_journal),
]

app = get_asgi_application()
