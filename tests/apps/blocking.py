"""An application that blocks its event loop in every way there is."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time

from tests.apps.scenarios import Scenarios, answer, answer_pid, serve_lifespan
from tests.apps.stopping import say
from tests.support.asgi import Message, Receive, Scope, Send

app = Scenarios()


def seconds(scope: Scope) -> float:
    """Return how long to block: the query."""
    return float(scope["query_string"])


@app.at("/pid")
async def pid(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the process."""
    await answer_pid(send)


@app.at("/sleep")
async def sleep(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait as a beginner does."""
    say("here")
    time.sleep(seconds(scope))  # noqa: ASYNC251 (in the first step)
    await answer(send, b"slept")


@app.at("/work")
async def work(scope: Scope, receive: Receive, send: Send) -> None:
    """Take a millisecond of the loop, as a small computation does."""
    time.sleep(0.001)  # noqa: ASYNC251 (that is the point)
    await answer(send, b"worked")


@app.at("/sleep-later")
async def sleep_later(scope: Scope, receive: Receive, send: Send) -> None:
    """Block in a task's later step, which asyncio runs."""
    await asyncio.sleep(0.01)
    time.sleep(seconds(scope))  # noqa: ASYNC251 (in a later step)
    await answer(send, b"slept")


@app.at("/spin")
async def spin(scope: Scope, receive: Receive, send: Send) -> None:
    """Compute in Python."""
    end = time.monotonic() + seconds(scope)
    while time.monotonic() < end:
        pass
    await answer(send, b"spun")


@app.at("/hold")
async def hold(scope: Scope, receive: Receive, send: Send) -> None:
    """Compute in C, which keeps the GIL."""
    say("here")
    hold_interpreter(seconds(scope))
    await answer(send, b"held")


@app.at("/hold-asleep")
async def hold_asleep(scope: Scope, receive: Receive, send: Send) -> None:
    """Sleep in C code that keeps the GIL; a signal ends it."""
    ctypes.PyDLL(None).usleep(int(seconds(scope) * 1_000_000))
    await answer(send, b"held")


def hold_interpreter(duration: float) -> None:
    """Keep the GIL for about so long, in calls that each keep it for long, too."""
    numbers = 1_000_000
    while True:
        start = time.monotonic()
        sum(range(numbers))
        speed = numbers / (time.monotonic() - start)
        if numbers / speed >= 0.2:
            break
        numbers *= 2
    say("holding")
    sum(range(int(speed * duration)))


@app.at("/hold-elsewhere")
async def hold_elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Keep the GIL in another thread."""
    await asyncio.to_thread(hold_interpreter, seconds(scope))
    await answer(send, b"held")


@app.at("/wait")
async def wait(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait as it should be done."""
    say("here")
    await asyncio.sleep(seconds(scope))
    await answer(send, b"waited")


@app.at("/thread")
async def thread(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait in another thread."""
    await asyncio.to_thread(time.sleep, seconds(scope))
    await answer(send, b"waited")


@app.at("/busy")
async def busy(scope: Scope, receive: Receive, send: Send) -> None:
    """Keep the loop so busy that it never sleeps, without ever blocking it."""
    end = time.monotonic() + seconds(scope)
    while time.monotonic() < end:  # noqa: ASYNC110 (nothing is waited for)
        await asyncio.sleep(0)
    await answer(send, b"busy")


@app.at("/idle-thread")
async def idle_thread(scope: Scope, receive: Receive, send: Send) -> None:
    """Leave a thread with a name behind that does nothing."""
    started = threading.Event()

    def lie_about() -> None:
        started.set()
        time.sleep(seconds(scope))

    threading.Thread(target=lie_about, name="lazybones", daemon=True).start()
    await asyncio.to_thread(started.wait)
    await answer(send, b"started")


async def slow_to_start_and_stop(scope: Scope, receive: Receive, send: Send) -> None:
    """Block the loop where the application starts and where it ends."""
    if scope["type"] == "lifespan":

        async def receive_slowly() -> Message:
            message = await receive()
            time.sleep(3)  # noqa: ASYNC251 (that is what is tested)
            return message

        await serve_lifespan(receive_slowly, send)
        return
    await app(scope, receive, send)
