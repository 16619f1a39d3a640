"""Scenarios that use `send()` wrongly: each notes its error and then answers, if it still can."""

from __future__ import annotations

from tests.apps.scenarios import Scenarios, answer, answer_json, chunk, start
from tests.support.asgi import Message, Receive, Scope, Send

app = Scenarios()

# What may not be sent as the first message. The path of each is `/wrong/<name>`.
WRONG_FIRST: dict[str, Message] = {
    "body-before-start": {"type": "http.response.body", "body": b""},
    "unknown-type": {"type": "http.response.nonsense"},
    "websocket-message": {"type": "websocket.accept"},
    "no-type": {"status": 200},
    "no-status": {"type": "http.response.start", "headers": []},
    "status-is-str": {"type": "http.response.start", "status": "200"},
    "status-too-large": {"type": "http.response.start", "status": 1000},
    "status-informational": {"type": "http.response.start", "status": 100},
    "status-negative": {"type": "http.response.start", "status": -1},
    "header-name-is-str": {
        "type": "http.response.start",
        "status": 200,
        "headers": [("x-a", b"1")],
    },
    "header-value-is-str": {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"x-a", "1")],
    },
    "header-is-one-value": {"type": "http.response.start", "status": 200, "headers": [(b"x-a",)]},
    "headers-is-int": {"type": "http.response.start", "status": 200, "headers": 1},
}

# Header fields that would let one response become two.
HOSTILE_FIELDS: dict[str, tuple[bytes, bytes]] = {
    "cr-in-value": (b"x-a", b"1\rset-cookie: a=b"),
    "lf-in-value": (b"x-a", b"1\nset-cookie: a=b"),
    "crlf-in-value": (b"x-a", b"1\r\nset-cookie: a=b"),
    "nul-in-value": (b"x-a", b"1\x00"),
    "cr-in-name": (b"x-a\rset-cookie", b"1"),
    "lf-in-name": (b"x-a\nset-cookie", b"1"),
    "crlf-in-name": (b"x-a: 1\r\nset-cookie", b"1"),
    "nul-in-name": (b"x-\x00a", b"1"),
    "space-in-name": (b"x a", b"1"),
    "colon-in-name": (b"x:a", b"1"),
    "empty-name": (b"", b"1"),
    "length-is-no-number": (b"content-length", b"ten"),
    "length-is-negative": (b"content-length", b"-1"),
}


def _wrong_message(path: str) -> Message:
    kind, name = path.strip("/").split("/")
    if kind == "wrong":
        return WRONG_FIRST[name]
    return {"type": "http.response.start", "status": 200, "headers": [HOSTILE_FIELDS[name]]}


async def _wrong_first(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await send(_wrong_message(scope["path"]))
    except Exception as error:  # noqa: BLE001, RUF100 (the test asks which one it was)
        await answer_json(send, {"kind": type(error).__name__, "text": str(error)})
    else:
        await chunk(send, b"accepted", more=False)


for _name in WRONG_FIRST:
    app.at(f"/wrong/{_name}")(_wrong_first)
for _name in HOSTILE_FIELDS:
    app.at(f"/hostile/{_name}")(_wrong_first)


async def _expect_error(scope: Scope, send: Send, message: Message) -> None:
    try:
        await send(message)
    except Exception as error:  # noqa: BLE001, RUF100 (as above)
        app.note(scope, f"{type(error).__name__}: {error}")
    else:
        app.note(scope, "accepted")


@app.at("/second-start")
async def second_start(scope: Scope, receive: Receive, send: Send) -> None:
    """Start twice, then finish."""
    await start(send, (b"content-length", b"2"))
    await _expect_error(scope, send, {"type": "http.response.start", "status": 500})
    await chunk(send, b"ok", more=False)


@app.at("/body-after-end")
async def body_after_end(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a body when the response is complete."""
    await answer(send, b"ok")
    await _expect_error(scope, send, {"type": "http.response.body", "body": b"more"})


@app.at("/body-is-str")
async def body_is_str(scope: Scope, receive: Receive, send: Send) -> None:
    """Send text for a body, then bytes."""
    await start(send, (b"content-length", b"2"))
    await _expect_error(scope, send, {"type": "http.response.body", "body": "ok"})
    await chunk(send, b"ok", more=False)


@app.at("/trailers-unannounced")
async def trailers_unannounced(scope: Scope, receive: Receive, send: Send) -> None:
    """Send trailers that the start message did not promise."""
    await start(send)
    message = {"type": "http.response.trailers", "headers": [(b"x-a", b"1")]}
    await _expect_error(scope, send, message)
    await chunk(send, b"ok", more=False)


@app.at("/message-is-list")
async def message_is_list(scope: Scope, receive: Receive, send: Send) -> None:
    """Send something that is no message at all."""
    await _expect_error(scope, send, ["http.response.start"])  # type: ignore[arg-type]
    await answer(send, b"ok")


@app.at("/too-much")
async def too_much(scope: Scope, receive: Receive, send: Send) -> None:
    """Send more than the content-length, in a second message."""
    await start(send, (b"content-length", b"5"))
    await chunk(send, b"hel")
    await _expect_error(scope, send, {"type": "http.response.body", "body": b"lo world"})


@app.at("/too-much-at-once")
async def too_much_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Send more than the content-length in the only message."""
    await start(send, (b"content-length", b"5"))
    await _expect_error(scope, send, {"type": "http.response.body", "body": b"hello world"})


@app.at("/too-little")
async def too_little(scope: Scope, receive: Receive, send: Send) -> None:
    """Say the body is complete before its length is reached."""
    await start(send, (b"content-length", b"10"))
    await chunk(send, b"hel")
    await chunk(send, b"lo", more=False)


@app.at("/too-little-at-once")
async def too_little_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Send less than the content-length in the only message."""
    await start(send, (b"content-length", b"10"))
    await chunk(send, b"hello", more=False)
