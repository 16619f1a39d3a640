"""Scenarios about `send()`: framing, flushing, and what happens to a response nobody reads."""

from __future__ import annotations

import asyncio

from tests.apps.scenarios import (
    Scenarios,
    answer,
    answer_json,
    chunk,
    for_ever,
    read_body,
    start,
    until_disconnect,
)
from tests.support.asgi import Receive, Scope, Send

app = Scenarios()

_events: dict[bytes, asyncio.Event] = {}


def _released(key: bytes) -> asyncio.Event:
    return _events.setdefault(key, asyncio.Event())


@app.at("/length")
async def with_length(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a content-length."""
    await answer(send, b"hello")


@app.at("/single")
async def single_message(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer in one message, saying no length."""
    await start(send)
    await chunk(send, b"hello", more=False)


@app.at("/chunks")
async def two_chunks(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer in two messages, saying no length."""
    await start(send)
    await chunk(send, b"hello ")
    await chunk(send, b"world", more=False)


@app.at("/length-in-parts")
async def length_in_parts(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a length in several messages."""
    await start(send, (b"content-length", b"10"))
    await chunk(send, b"hello")
    await chunk(send, b"")
    await chunk(send, b"world", more=False)


@app.at("/empty-chunks")
async def empty_chunks(scope: Scope, receive: Receive, send: Send) -> None:
    """Send messages without bytes between the others; an empty chunk would end the body."""
    await start(send)
    await chunk(send, b"")
    await chunk(send, b"a")
    await chunk(send, b"")
    await chunk(send, b"b")
    await chunk(send, b"", more=False)


@app.at("/defaults")
async def default_keys(scope: Scope, receive: Receive, send: Send) -> None:
    """Leave out every key that has a default."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


@app.at("/iterable-headers")
async def iterable_headers(scope: Scope, receive: Receive, send: Send) -> None:
    """Give the headers as a generator of tuples, as the specification allows any iterable."""
    headers = ((name, b"1") for name in (b"x-a", b"x-b"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@app.at("/headers")
async def several_headers(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the same header twice with another between, and a mixed-case name."""
    await answer(
        send, b"", (b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3"), (b"set-cookie", b"k=v; Path=/")
    )


@app.at("/own-server-header")
async def own_server_header(scope: Scope, receive: Receive, send: Send) -> None:
    """Send headers that the server would add."""
    await answer(send, b"", (b"server", b"mine"), (b"date", b"yesterday"))


@app.at("/own-chunked")
async def own_chunked(scope: Scope, receive: Receive, send: Send) -> None:
    """Ask for chunked oneself."""
    await start(send, (b"transfer-encoding", b"chunked"))
    await chunk(send, b"hello", more=False)


@app.at("/close")
async def ask_to_close(scope: Scope, receive: Receive, send: Send) -> None:
    """Ask for the connection to be closed."""
    await answer(send, b"bye", (b"connection", b"close"))


@app.at("/status")
async def status_with_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a body with the status that the query names."""
    await start(send, status=int(scope["query_string"]))
    await chunk(send, b"body", more=False)


@app.at("/first-byte")
async def first_byte(scope: Scope, receive: Receive, send: Send) -> None:
    """Send one chunk, then wait until the client is gone."""
    await start(send, (b"content-type", b"text/plain"))
    await chunk(send, b"first")
    await until_disconnect(receive)


@app.at("/head-first")
async def head_first(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a first message without bytes: the head is due although no body is."""
    await start(send)
    await chunk(send, b"")
    await until_disconnect(receive)


@app.at("/step")
async def step_by_step(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a second chunk only when another request says that the first one came."""
    await start(send)
    await chunk(send, b"one")
    await _released(scope["query_string"]).wait()
    await chunk(send, b"two")
    await chunk(send, b"", more=False)


@app.at("/go")
async def go(scope: Scope, receive: Receive, send: Send) -> None:
    """Let `/step` go on."""
    _released(scope["query_string"]).set()
    await answer(send)


@app.at("/flood")
async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Send 64 KiB chunks until it fails; note each mebibyte."""
    block = bytes(65536)
    await start(send)
    try:
        for index in range(4096):
            await chunk(send, block)
            if index % 16 == 15:
                app.note(scope, "mebibyte")
    except OSError as error:
        app.note(scope, f"stopped by {type(error).__name__}")
        raise
    await chunk(send, b"", more=False)


@app.at("/big")
async def big(scope: Scope, receive: Receive, send: Send) -> None:
    """Send 64 MiB in one message."""
    await answer(send, bytes(64 << 20))


@app.at("/send-after-disconnect")
async def send_after_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    """Send on when the client is gone, and note what that raises."""
    await start(send)
    await chunk(send, b"first")
    app.note(scope, "started")
    await until_disconnect(receive)
    app.note(scope, "disconnected")
    try:
        for _ in range(100):
            await chunk(send, b"more")
    except OSError:
        app.note(scope, "OSError")
    else:
        app.note(scope, "silence")


@app.at("/start-after-disconnect")
async def start_after_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    """Start the response when the client is gone."""
    app.note(scope, "called")
    await until_disconnect(receive)
    try:
        await answer(send, b"too late")
    except OSError:
        app.note(scope, "OSError")
    else:
        app.note(scope, "silence")


@app.at("/uncaught-disconnect")
async def uncaught_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    """Let the error of a send after the disconnect leave the application."""
    await start(send)
    await chunk(send, b"first")
    app.note(scope, "started")
    try:
        while True:
            await chunk(send, b"more")
            await asyncio.sleep(0.005)
    finally:
        app.note(scope, "left")


@app.at("/stalled")
async def stalled(scope: Scope, receive: Receive, send: Send) -> None:
    """Start nothing, wait for ever."""
    app.note(scope, "called")
    await for_ever()


@app.at("/extensions")
async def show_extensions(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the names of the extensions."""
    await answer_json(send, sorted(scope.get("extensions") or {}))


@app.at("/trailers")
async def trailers(scope: Scope, receive: Receive, send: Send) -> None:
    """Send trailers after the body."""
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"trailer", b"x-sum")],
            "trailers": True,
        }
    )
    await chunk(send, b"body", more=False)
    await send(
        {
            "type": "http.response.trailers",
            "headers": [(b"x-sum", b"42")],
            "more_trailers": False,
        }
    )


@app.at("/early-hint")
async def early_hint(scope: Scope, receive: Receive, send: Send) -> None:
    """Send 103 before the response."""
    links = [b"</style.css>; rel=preload; as=style", b"</x.js>; rel=preload; as=script"]
    await send({"type": "http.response.early_hint", "links": links})
    await answer(send, b"final")


@app.at("/debug")
async def debug(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the debug message, which the client must not see."""
    await send({"type": "http.response.debug", "info": {"template": "x.html"}})
    await answer(send, b"final")


@app.at("/pathsend")
async def pathsend(scope: Scope, receive: Receive, send: Send) -> None:
    """Let the server send a file: this one."""
    await start(send, (b"content-type", b"text/x-python"))
    await send({"type": "http.response.pathsend", "path": __file__})


_kept: list[tuple[Receive, Send]] = []


@app.at("/keep")
async def keep(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, and keep `receive` and `send` beyond the response."""
    _kept.append((receive, send))
    await answer(send, b"kept")


@app.at("/use-kept")
async def use_kept(scope: Scope, receive: Receive, send: Send) -> None:
    """Use those of a response that is over, then answer with what came of it."""
    old_receive, old_send = _kept.pop()
    received = (await old_receive())["type"]
    try:
        await start(old_send, status=500)
    except RuntimeError as error:
        refused = str(error)
    else:
        refused = "accepted"
    body = (await read_body(receive)).decode()
    await answer_json(send, {"received": received, "refused": refused, "body": body})


class _Text(str):
    """A key that is equal to a `str`, and not one."""

    __slots__ = ()


@app.at("/unusual-keys")
async def unusual_keys(scope: Scope, receive: Receive, send: Send) -> None:
    """Send messages whose keys are equal to those of the specification, and other objects."""
    headers = [(b"content-length", b"5")]
    made = {"".join(["sta", "tus"]): 201, _Text("type"): "http.response.start", "headers": headers}
    await send(made)
    parts = {"type": "http.response.body", _Text("body"): b"hel", "".join(["more_", "body"]): True}
    await send(parts)
    more = {f"own{number}": number for number in range(20)}
    await send({**more, "type": "http.response.body", "body": b"lo", "more_body": None})
