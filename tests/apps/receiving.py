"""Scenarios about `receive()`: bodies, interim answers, disconnects, and odd ways of awaiting."""

from __future__ import annotations

import asyncio

import anyio

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
from tests.support.asgi import Message, Receive, Scope, Send

app = Scenarios()


@app.at("/nothing")
async def ignore_the_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without looking at the request."""
    await answer(send, b"ignored")


@app.at("/echo")
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body."""
    await answer(send, await read_body(receive))


@app.at("/messages")
async def list_messages(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the literal of every message up to the end of the body."""
    messages = [dict(await receive())]
    while messages[-1].get("more_body", False):
        messages.append(dict(await receive()))
    await answer(send, repr(messages).encode())


@app.at("/count")
async def count(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the size of the body, holding none of it."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    await answer_json(send, size)


@app.at("/first-message")
async def read_only_the_first(scope: Scope, receive: Receive, send: Send) -> None:
    """Note the first message, then answer."""
    message = await receive()
    app.note(scope, message["body"].decode())
    await answer(send, message["body"])


@app.at("/never-reads")
async def never_read(scope: Scope, receive: Receive, send: Send) -> None:
    """Neither read nor answer until the client is gone for good."""
    app.note(scope, "called")
    await for_ever()


@app.at("/reads-after-answer")
async def read_after_answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, then receive."""
    await answer(send, b"done")
    app.note(scope, (await receive())["type"])
    app.note(scope, (await receive())["type"])


@app.at("/after-body")
async def wait_after_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, then wait for what comes next."""
    await read_body(receive)
    app.note(scope, "waiting")
    app.note(scope, (await receive())["type"])
    app.note(scope, (await receive())["type"])
    app.note(scope, "end")


@app.at("/mid-body")
async def wait_mid_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Read to a disconnect in the middle of the body."""
    app.note(scope, "called")
    app.note(scope, (await until_disconnect(receive))["type"])


@app.at("/receive-while-sending")
async def receive_while_sending(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait for the disconnect in a task of its own while the response streams."""
    watcher = asyncio.create_task(until_disconnect(receive))
    await start(send)
    await chunk(send, b"started")
    app.note(scope, "started")
    app.note(scope, (await watcher)["type"])


@app.at("/received-in-task")
async def receive_in_task(scope: Scope, receive: Receive, send: Send) -> None:
    """Pass what `receive()` returns to `create_task`, as frameworks do."""
    task: asyncio.Task[Message] = asyncio.create_task(receive())  # type: ignore[arg-type]
    message = await task
    await answer(send, message["body"])


@app.at("/received-by-wait-for")
async def receive_by_wait_for(scope: Scope, receive: Receive, send: Send) -> None:
    """Await `receive()` with a limit that is not reached."""
    message = await asyncio.wait_for(receive(), 5)
    await answer(send, message["body"])


@app.at("/received-by-wait")
async def receive_by_wait(scope: Scope, receive: Receive, send: Send) -> None:
    """Await `receive()` beside another task and take the first that is done."""
    other = asyncio.create_task(for_ever())
    mine: asyncio.Task[Message] = asyncio.create_task(receive())  # type: ignore[arg-type]
    done, _ = await asyncio.wait({other, mine}, return_when=asyncio.FIRST_COMPLETED)
    other.cancel()
    assert done == {mine}
    await answer(send, mine.result()["body"])


@app.at("/gathered")
async def gather(scope: Scope, receive: Receive, send: Send) -> None:
    """Gather a `receive()` with the first `send()`."""
    message, _ = await asyncio.gather(receive(), start(send))
    await chunk(send, message["body"], more=False)


@app.at("/gathered-sends")
async def gather_sends(scope: Scope, receive: Receive, send: Send) -> None:
    """Gather bare `send()` calls; they run in the order of the call."""
    await asyncio.gather(
        send({"type": "http.response.start", "status": 200, "headers": []}),
        send({"type": "http.response.body", "body": b"a", "more_body": True}),
        send({"type": "http.response.body", "body": b"b"}),
    )


@app.at("/sent-in-task")
async def send_in_task(scope: Scope, receive: Receive, send: Send) -> None:
    """Pass what `send()` returns to `create_task`."""
    await start(send)
    body = send({"type": "http.response.body", "body": b"sent"})
    await asyncio.create_task(body)  # type: ignore[arg-type]


@app.at("/sent-by-wait-for")
async def send_by_wait_for(scope: Scope, receive: Receive, send: Send) -> None:
    """Await `send()` with a limit."""
    await asyncio.wait_for(start(send), 5)
    await asyncio.wait_for(send({"type": "http.response.body", "body": b"sent"}), 5)


@app.at("/anyio")
async def use_anyio(scope: Scope, receive: Receive, send: Send) -> None:
    """Receive and send from the tasks of an anyio group."""
    received: list[Message] = []

    async def take() -> None:
        received.append(await receive())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(take)
            group.start_soon(start, send)
    await chunk(send, received[0]["body"], more=False)


@app.at("/two-receivers")
async def two_receivers(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait for the body in two tasks at once; together they get each byte once."""
    parts: list[bytes] = []

    async def take_all() -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            parts.append(message["body"])
            if not message["more_body"]:
                complete.set()

    complete = asyncio.Event()
    tasks = [asyncio.create_task(take_all()) for _ in range(2)]
    app.note(scope, "waiting")
    await complete.wait()
    await answer_json(send, sum(map(len, parts)))
    await asyncio.wait(tasks)
    app.note(scope, "both ended")


@app.at("/cancelled-receive")
async def cancel_a_receive(scope: Scope, receive: Receive, send: Send) -> None:
    """Give up on `receive()` several times before the body comes; then read it."""
    for _ in range(3):
        try:
            await asyncio.wait_for(receive(), 0.02)
        except TimeoutError:
            app.note(scope, "gave up")
    app.note(scope, "reading")
    await answer(send, await read_body(receive))


@app.at("/impatient")
async def read_impatiently(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the whole body with a tiny limit on each `receive()`; a timeout loses nothing."""
    parts: list[bytes] = []
    gave_up, more = 0, True
    app.note(scope, "reading")
    while more:
        try:
            message = await asyncio.wait_for(receive(), 0.005)
        except TimeoutError:
            gave_up += 1
            continue
        parts.append(message["body"])
        more = message["more_body"]
    await answer(send, b"".join(parts), (b"gave-up", b"%d" % gave_up))


@app.at("/abandoned")
async def abandon_a_receive(scope: Scope, receive: Receive, send: Send) -> None:
    """Call `receive()` and `send()` and drop what they return; close it as a coroutine."""
    receive().close()  # type: ignore[attr-defined]
    await answer(send, await read_body(receive))


@app.at("/is-coroutine")
async def is_coroutine(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer whether asyncio takes what `receive()` returns for a coroutine."""
    awaitable = receive()
    is_one = asyncio.iscoroutine(awaitable)
    await awaitable
    await answer_json(send, is_one)


@app.at("/expect")
async def read_when_told(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait a moment of the loop before asking for the body."""
    app.note(scope, "called")
    body = await read_body(receive)
    await answer(send, body)
