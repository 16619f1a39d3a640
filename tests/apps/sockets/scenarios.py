"""WebSocket scenarios: the path is the scenario, the query names its journal."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.apps.scenarios import Scenarios, answer, for_ever
from tests.support.asgi import Message, Receive, Scope, Send

app = Scenarios()
going = asyncio.Event()


async def accept(receive: Receive, send: Send, **more: Any) -> None:
    """Take the connect and accept."""
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", **more})


async def send_text(send: Send, text: str) -> None:
    """Send a text."""
    await send({"type": "websocket.send", "text": text})


def shown(message: Message) -> str:
    """Write a disconnect down."""
    assert message["type"] == "websocket.disconnect", message
    return f"disconnect {message['code']} {message['reason']}".strip()


@app.at("/")
async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer an HTTP request; a WebSocket has no business here."""
    await answer(send, scope["type"].encode())


@app.at("/echo")
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send everything back; note the end."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        assert len(message) == 2, message
        await send({**message, "type": "websocket.send"})
    app.note(scope, shown(message))


@app.at("/scope")
async def show_scope(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the scope as JSON, over HTTP or as a message."""
    text = json.dumps(scope, default=repr)
    if scope["type"] == "http":
        return await answer(send, text.encode())
    await accept(receive, send)
    await send_text(send, text)
    await receive()


@app.at("/subprotocol")
async def subprotocol(scope: Scope, receive: Receive, send: Send) -> None:
    """Choose the last subprotocol, and add headers."""
    headers = [(b"x-one", b"1"), (b"set-cookie", b"a=b"), (b"connection", b"close")]
    await accept(receive, send, subprotocol=scope["subprotocols"][-1], headers=headers)
    await send_text(send, "ok")


@app.at("/refuse")
async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Close before the accept."""
    await receive()
    await send({"type": "websocket.close"})
    app.note(scope, shown(await receive()))


@app.at("/deny")
async def deny(scope: Scope, receive: Receive, send: Send) -> None:
    """Deny with a response of its own."""
    await receive()
    kind = "websocket.http.response"
    headers = [(b"x-why", b"tired")]
    await send({"type": f"{kind}.start", "status": 418, "headers": headers})
    await send({"type": f"{kind}.body", "body": b"no ", "more_body": True})
    await send({"type": f"{kind}.body", "body": b"way"})


@app.at("/raise-before")
async def raise_before(scope: Scope, receive: Receive, send: Send) -> None:
    """Fail before the accept."""
    raise RuntimeError("before")


@app.at("/raise-after")
async def raise_after(scope: Scope, receive: Receive, send: Send) -> None:
    """Fail after the accept."""
    await accept(receive, send)
    raise RuntimeError("after")


@app.at("/return-before")
async def return_before(scope: Scope, receive: Receive, send: Send) -> None:
    """Return without an answer."""


@app.at("/return-after")
async def return_after(scope: Scope, receive: Receive, send: Send) -> None:
    """Return without a close."""
    await accept(receive, send)


@app.at("/close")
async def close(scope: Scope, receive: Receive, send: Send) -> None:
    """Close with code and reason; note what comes of it and of another message."""
    await accept(receive, send)
    await send({"type": "websocket.close", "code": 4002, "reason": "b\u00fc"})
    app.note(scope, shown(await receive()))
    try:
        await send_text(send, "more")
    except RuntimeError as error:
        app.note(scope, error)


@app.at("/misuse")
async def misuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Send messages as the client says; answer with the errors."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        tried = json.loads(message["text"])
        if "raw" in tried:
            tried["bytes"] = tried.pop("raw").encode()
        try:
            await send(tried)
        except Exception as error:
            await send_text(send, f"{type(error).__name__}: {error}")


@app.at("/misuse-accept")
async def misuse_accept(scope: Scope, receive: Receive, send: Send) -> None:
    """Try wrong answers to the handshake, then accept; send the errors."""
    await receive()
    errors = []
    for wrong in (
        {"type": "websocket.send", "text": "x"},
        {"type": "websocket.accept", "headers": [(b"Sec-WebSocket-Accept", b"x")]},
        {"type": "websocket.accept", "headers": [(b"a", b"x\r\nb: y")]},
        {"type": "websocket.accept", "subprotocol": "a\r\nb: y"},
        {"type": "websocket.accept", "subprotocol": b"a"},
        {"type": "websocket.http.response.body"},
        {"type": "http.response.start"},
    ):
        try:
            await send(wrong)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    await send({"type": "websocket.accept"})
    try:
        await send({"type": "websocket.accept"})
    except RuntimeError as error:
        errors.append(f"{type(error).__name__}: {error}")
    await send_text(send, json.dumps(errors))


@app.at("/send-until-it-fails")
async def send_until_it_fails(scope: Scope, receive: Receive, send: Send) -> None:
    """Send for ever; note how it ended."""
    await accept(receive, send)
    try:
        while True:
            await send_text(send, "tick")
            await asyncio.sleep(0)
    except OSError as error:
        app.note(scope, f"OSError {type(error).__name__}")
        app.note(scope, shown(await receive()))


@app.at("/flood")
async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Send 200 messages of 64 KiB; note each."""
    await accept(receive, send)
    for number in range(200):
        await send({"type": "websocket.send", "bytes": bytes(65536)})
        app.note(scope, number)


@app.at("/deaf")
async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
    """Receive nothing until told to, then count and send the number."""
    await accept(receive, send)
    app.note(scope, "accepted")
    await going.wait()
    count = 0
    while "text" in (message := await receive()) and message["text"] != "last":
        count += 1
    await send_text(send, str(count))


@app.at("/go")
async def go(scope: Scope, receive: Receive, send: Send) -> None:
    """Let the deaf one hear."""
    going.set()
    await answer(send)


@app.at("/goodbye")
async def goodbye(scope: Scope, receive: Receive, send: Send) -> None:
    """Say goodbye to the disconnect, as long as it lasts."""
    await accept(receive, send)
    await send_text(send, shown(await receive()))
    await send_text(send, "goodbye")


@app.at("/never")
async def never(scope: Scope, receive: Receive, send: Send) -> None:
    """Neither listen nor end."""
    await accept(receive, send)
    await for_ever()
