"""An application for tests of the logs: it says what it was told about its request."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import parse_qs

from tests.apps.scenarios import (
    Scenarios,
    answer,
    answer_json,
    chunk,
    read_body,
    serve_lifespan,
    start,
)
from tests.support.asgi import Receive, Scope, Send

app = Scenarios()


class WithoutHealth(logging.Filter):
    """The filter that everybody writes."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave health checks out."""
        return "/health" not in record.getMessage()


@app.at("/")
async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with five bytes and an entity tag."""
    await start(send, (b"etag", b'"v1"'))
    await chunk(send, b"hello", more=False)


@app.at("/health")
async def health(scope: Scope, receive: Receive, send: Send) -> None:
    """Be well."""
    await answer(send, b"fine")


@app.at("/id")
async def request_id(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the extension that names the request."""
    await answer_json(send, scope["extensions"].get("rsgi.request_id"))


@app.at("/upload")
async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer once everything is there."""
    await answer(send, await read_body(receive))


@app.at("/raise")
async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise."""
    raise ValueError("raised\nin two lines")


@app.at("/slow")
async def take_time(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer after as many seconds as the query says."""
    seconds = parse_qs(scope["query_string"].decode())["s"][0]
    await asyncio.sleep(float(seconds))
    await answer(send, b"at last")


@app.at("/events")
async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a stream of events that takes its time."""
    await start(send, (b"content-type", b"text/event-stream"))
    await chunk(send, b"data: 1\n\n")
    await asyncio.sleep(0.3)
    await chunk(send, b"data: 2\n\n", more=False)


@app.at("/log")
async def own_log(scope: Scope, receive: Receive, send: Send) -> None:
    """Log something as the application."""
    logging.getLogger("app").warning("the application's own")
    await answer(send, b"logged")


def configured() -> Scenarios:
    """Return the application after it has configured logging by itself."""
    logging.basicConfig(level=logging.INFO, format="%(name)s|%(levelname)s|%(message)s")
    return app


async def anything(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request in the same way."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    await start(send, (b"content-length", b"0"))
    await chunk(send, b"", more=False)
