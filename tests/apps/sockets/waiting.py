"""Scenarios about waiting for a message: whose task goes on, in what context, and how it gives up.

Each waits first, says "go", and goes on with what the client sends then; "done" is the last word.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import anyio

from tests.apps.scenarios import Scenarios, answer
from tests.apps.sockets.scenarios import accept, send_text
from tests.support.asgi import Receive, Scope, Send

app = Scenarios()
color = contextvars.ContextVar("color", default="none")


async def take(receive: Receive) -> str:
    """Return the text of the next message."""
    message = await receive()
    assert message["type"] == "websocket.receive", message
    return str(message["text"])


async def suspended(awaitable: Awaitable[Any]) -> asyncio.Task[Any]:
    """Return a task that awaits it, once it waits."""
    task = asyncio.ensure_future(awaitable)
    for _ in range(3):
        await asyncio.sleep(0)
    assert isinstance(task, asyncio.Task)
    assert not task.done()
    return task


async def cancelled_with(task: asyncio.Task[Any]) -> tuple[Any, ...]:
    """Cancel the task; return what its end says about it."""
    assert task.cancel("enough")
    try:
        await task
    except asyncio.CancelledError as error:
        return error.args
    raise AssertionError("it was not cancelled")


@app.at("/")
async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer an HTTP request."""
    await answer(send, b"hello")


@app.at("/context")
async def keep_the_context(scope: Scope, receive: Receive, send: Send) -> None:
    """Find the task and the context variables where they were."""
    await accept(receive, send)

    async def wait(name: str) -> str:
        color.set(name)
        before = asyncio.current_task()
        text = await take(receive)
        assert asyncio.current_task() is before
        return f"{text} {color.get()}"

    tasks = [await suspended(wait(name)) for name in ("red", "blue")]
    await send_text(send, "go")
    texts = sorted(await asyncio.gather(*tasks))
    assert color.get() == "none"
    await send_text(send, " ".join(texts))


@app.at("/cancelled")
async def cancel_with_a_word(scope: Scope, receive: Receive, send: Send) -> None:
    """Cancel what waits, as a task and as a coroutine; nothing is lost."""
    await accept(receive, send)
    for awaitable in (receive(), take(receive)):
        task = await suspended(awaitable)
        assert await cancelled_with(task) == ("enough",)
        assert task.cancelled()
    with anyio.move_on_after(0.02) as scope_of_anyio:
        await receive()
    assert scope_of_anyio.cancelled_caught
    try:
        await asyncio.wait_for(receive(), 0.02)
    except TimeoutError:
        await send_text(send, "go")
    await send_text(send, await take(receive))


@app.at("/cancelled-when-woken")
async def cancel_what_is_woken(scope: Scope, receive: Receive, send: Send) -> None:
    """Of two that wait for one message, the first cancels the second, which was woken, too."""
    await accept(receive, send)
    tasks: list[asyncio.Task[Any]] = []

    async def win() -> str:
        text = await take(receive)
        for task in tasks:
            if task is not asyncio.current_task():
                assert task.cancel()
        return text

    tasks += [await suspended(win()), await suspended(win())]
    await send_text(send, "go")
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(type(result).__name__ for result in done) == ["CancelledError", "str"], done
    await send_text(send, await take(receive))


@app.at("/misunderstood")
async def misunderstand(scope: Scope, receive: Receive, send: Send) -> None:
    """Await something twice at once, or step it by hand; who waited first is not disturbed."""
    await accept(receive, send)
    awaitable = receive()
    assert asyncio.iscoroutine(awaitable)
    assert inspect.isawaitable(awaitable)
    assert not asyncio.isfuture(awaitable)
    first = await suspended(awaitable)
    assert not asyncio.isfuture(awaitable)
    errors = []
    steps: list[Callable[[], Any]] = [
        lambda: cast("Any", awaitable).send(None),
        lambda: next(iter(awaitable.__await__())),
    ]
    for step in steps:
        try:
            step()
        except RuntimeError as error:
            errors.append(str(error))
    assert all("awaited" in error for error in errors), errors
    assert len(errors) == 2
    await send_text(send, "go")
    await send_text(send, (await first)["text"])


@app.at("/python-task")
async def wait_in_a_task_in_python(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait in the tasks of asyncio that are written in Python; end one by a cancellation."""
    await accept(receive, send)
    kind = vars(asyncio.tasks)["_PyTask"]
    task = kind(take(receive), loop=asyncio.get_running_loop())
    await asyncio.sleep(0)
    assert await cancelled_with(task) == ("enough",)
    task = kind(take(receive), loop=asyncio.get_running_loop())
    await asyncio.sleep(0)
    await send_text(send, "go")
    await send_text(send, await task)


@app.at("/other-loop")
async def wait_in_another_loop(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait in an event loop of another thread."""
    await accept(receive, send)
    here, waits = asyncio.get_running_loop(), asyncio.Event()

    async def wait() -> str:
        task = await suspended(take(receive))
        here.call_soon_threadsafe(waits.set)
        return str(await task)

    other = asyncio.create_task(asyncio.to_thread(asyncio.run, wait()))
    await waits.wait()
    await send_text(send, "go")
    await send_text(send, await other)


@app.at("/in-turn")
async def wait_in_turn(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait in all kinds of tasks, one after the other, and in this one in between."""
    await accept(receive, send)
    texts = []

    async def in_this_one() -> None:
        await send_text(send, "go")
        texts.append(await take(receive))

    async def in_another(task: asyncio.Task[str]) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        await send_text(send, "go")
        texts.append(await task)

    python = vars(asyncio.tasks)["_PyTask"]
    loop = asyncio.get_running_loop()
    for _ in range(2):
        await in_this_one()
        await in_this_one()
        for _ in range(2):
            await in_another(asyncio.create_task(take(receive)))
        await in_this_one()
        await in_another(python(take(receive), loop=loop))
        await in_this_one()
        await in_another(asyncio.create_task(asyncio.to_thread(asyncio.run, take(receive))))
        await in_another(asyncio.create_task(asyncio.wait_for(take(receive), 30)))
    await send_text(send, " ".join(texts))


@app.at("/kept")
async def keep_what_receive_returns(scope: Scope, receive: Receive, send: Send) -> None:
    """Keep awaitables that have been awaited: they stay what they are."""
    await accept(receive, send)
    kept: list[Awaitable[Any]] = []
    for _ in range(3):
        awaitable = receive()
        assert all(awaitable is not before for before in kept)
        kept.append(awaitable)
        await send_text(send, "go")
        text = (await awaitable)["text"]
    receive().close()  # type: ignore[attr-defined]
    refusals = await asyncio.gather(*kept, return_exceptions=True)
    assert all("already awaited" in str(refusal) for refusal in refusals), refusals
    await send_text(send, text)


@app.at("/refused-by-a-thread")
async def refuse_in_a_thread(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse from another thread while a task waits and the loop sleeps."""
    await receive()
    task = await suspended(receive())
    loop = asyncio.get_running_loop()

    def refuse() -> None:
        time.sleep(0.05)  # the loop is asleep then, most likely
        send({"type": "websocket.close"})

    await loop.run_in_executor(None, refuse)
    app.note(scope, (await task)["type"])


@app.at("/busy")
async def count_beside_messages(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo, while a timer and a chain of callbacks count."""
    await accept(receive, send)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    while (message := await receive())["type"] == "websocket.receive":
        await send_text(send, f"{ticks} {message['text']}")
    ticking.cancel()


@app.at("/exit")
async def leave(scope: Scope, receive: Receive, send: Send) -> None:
    """Leave the process from a message's step."""
    await accept(receive, send)
    await send_text(send, str(os.getpid()))
    await receive()
    # Nobody is left to ask how this task ended, and asyncio would complain about that.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    raise SystemExit(3)
