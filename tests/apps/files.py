"""Scenarios that answer with files, by name and by descriptor; the header `x-path` says which."""

from __future__ import annotations

import os
from typing import Any

from tests.apps.scenarios import Scenarios, answer, answer_json, chunk, start
from tests.support.asgi import Receive, Scope, Send

app = Scenarios()

PATH_SEND = "http.response.pathsend"
ZERO_COPY_SEND = "http.response.zerocopysend"


def _field(scope: Scope, name: bytes) -> str:
    return os.fsdecode(dict(scope["headers"]).get(name, b""))


async def _zero_copy(send: Send, file: Any, **keys: object) -> None:
    await send({"type": ZERO_COPY_SEND, "file": file, **keys})


@app.at("/extensions")
async def extensions(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the names of the extensions."""
    await answer_json(send, sorted(scope["extensions"]))


@app.at("/path")
async def path(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a file by name; note what came of it."""
    length = _field(scope, b"x-length")
    await start(send, *([(b"content-length", length.encode())] if length else []))
    try:
        await send({"type": PATH_SEND, "path": _field(scope, b"x-path")})
    except Exception as error:
        app.note(scope, f"{type(error).__name__}: {error}")
        raise
    app.note(scope, "sent")


@app.at("/path-or-text")
async def path_or_text(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a file by name, or something else where that fails."""
    await start(send)
    try:
        await send({"type": PATH_SEND, "path": _field(scope, b"x-path")})
    except OSError as error:
        await chunk(send, f"{type(error).__name__} {error.errno} {error.filename}".encode(), False)


@app.at("/not-modified")
async def not_modified(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a file where no content may follow."""
    await start(send, status=304)
    await send({"type": PATH_SEND, "path": _field(scope, b"x-path")})


@app.at("/unawaited")
async def unawaited(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a file, and do not wait for it."""
    await start(send)
    sending: Any = send({"type": PATH_SEND, "path": _field(scope, b"x-path")})
    sending.close()


@app.at("/too-early")
async def too_early(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a file before the start; answer with the error."""
    try:
        await send({"type": PATH_SEND, "path": "/"})
    except RuntimeError as error:
        await answer(send, str(error).encode())


@app.at("/trailers")
async def trailers(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a file and trailers."""
    await send({"type": "http.response.start", "status": 200, "trailers": True})
    await send({"type": PATH_SEND, "path": _field(scope, b"x-path")})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"42")]})


@app.at("/descriptor")
async def descriptor(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a file by a descriptor that is closed at once."""
    await start(send)
    number = os.open(_field(scope, b"x-path"), os.O_RDONLY)
    sending = send({"type": ZERO_COPY_SEND, "file": number})
    os.close(number)
    await sending


@app.at("/parts")
async def parts(scope: Scope, receive: Receive, send: Send) -> None:
    """Send parts of a file between other content: 2..5, 10 to the end, and the first two."""
    await start(send)
    with os.fdopen(os.open(_field(scope, b"x-path"), os.O_RDONLY), "rb") as file:
        await chunk(send, b"<")
        await _zero_copy(send, file, offset=2, count=3, more_body=True)
        await chunk(send, b"|")
        await _zero_copy(send, file.fileno(), offset=10, more_body=True)
        await chunk(send, b"|")
        await _zero_copy(send, file, count=2, more_body=True)
        # From where the last one ended.
        await _zero_copy(send, file, count=2, more_body=True)
        await chunk(send, b">", False)


@app.at("/position")
async def position(scope: Scope, receive: Receive, send: Send) -> None:
    """Send what is left of a file that has been read from, by object and by descriptor."""
    await start(send)
    with os.fdopen(os.open(_field(scope, b"x-path"), os.O_RDONLY), "rb") as file:
        file.read(3)
        await _zero_copy(send, file, more_body=True)
        number = file.fileno()
        os.lseek(number, -2, os.SEEK_END)
        await _zero_copy(send, number)


@app.at("/pipe")
async def pipe(scope: Scope, receive: Receive, send: Send) -> None:
    """Try things that are no files; answer with the errors."""
    await start(send)
    reader, writer = os.pipe()
    errors = []
    for file in (reader, 99999, -1, "name", None):
        try:
            await _zero_copy(send, file)
        except Exception as error:
            errors.append(type(error).__name__)
    os.close(reader)
    os.close(writer)
    await chunk(send, " ".join(errors).encode(), False)


async def with_sockets(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a WebSocket with its extensions; everything else is a scenario."""
    if scope["type"] != "websocket":
        await app(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": " ".join(sorted(scope["extensions"]))})
    await send({"type": "websocket.close"})
