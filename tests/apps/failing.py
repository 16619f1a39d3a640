"""Applications that raise, or return too early. The log of their server holds tracebacks."""

from __future__ import annotations

import asyncio
import sys
import warnings

from tests.apps.scenarios import Scenarios, answer, chunk, read_body, start
from tests.support.asgi import Receive, Scope, Send

app = Scenarios()


class NotAnException(BaseException):
    """An error outside `Exception` that asyncio leaves in the task."""


@app.at("/fine")
async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer properly."""
    await answer(send, b"fine")


@app.at("/before-start")
async def raise_before_start(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise at once."""
    raise ValueError("raised before the start")


@app.at("/after-await")
async def raise_after_await(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise after the loop had a turn."""
    await asyncio.sleep(0)
    raise ValueError("raised after an await")


@app.at("/after-body-read")
async def raise_after_reading(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise when the request is read."""
    await read_body(receive)
    raise ValueError("raised after the body")


@app.at("/after-start")
async def raise_after_start(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise when the start message is sent but no body."""
    await start(send, (b"x-mine", b"1"))
    raise ValueError("raised after the start")


@app.at("/after-chunk")
async def raise_after_chunk(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise in the middle of a chunked body."""
    await start(send)
    await chunk(send, b"first")
    raise ValueError("raised after a chunk")


@app.at("/after-part")
async def raise_after_part(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise in the middle of a body with a length."""
    await start(send, (b"content-length", b"10"))
    await chunk(send, b"first")
    raise ValueError("raised after a part")


@app.at("/after-end")
async def raise_after_end(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise when the response is complete."""
    await answer(send, b"complete")
    raise ValueError("raised after the end")


@app.at("/base-exception")
async def raise_base_exception(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise an error outside `Exception`."""
    raise NotAnException("outside")


@app.at("/cancelled")
async def raise_cancelled(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise what a cancelled task raises, uncancelled."""
    raise asyncio.CancelledError


@app.at("/generator-exit")
async def raise_generator_exit(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise `GeneratorExit`, which coroutines treat specially."""
    raise GeneratorExit


@app.at("/stop-iteration")
async def raise_stop_iteration(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise `StopAsyncIteration`, which a future cannot hold unharmed."""
    raise StopAsyncIteration


@app.at("/group")
async def raise_group(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise an exception group."""
    raise ExceptionGroup("several", [ValueError("one of the group"), TypeError("another")])


@app.at("/recursion")
async def recurse(scope: Scope, receive: Receive, send: Send) -> None:
    """Exhaust the stack."""
    await recurse(scope, receive, send)


@app.at("/system-exit")
async def raise_system_exit(scope: Scope, receive: Receive, send: Send) -> None:
    """Call `sys.exit` in a handler."""
    sys.exit(7)


@app.at("/silent")
async def return_without_answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Return and send nothing."""


@app.at("/only-start")
async def return_after_start(scope: Scope, receive: Receive, send: Send) -> None:
    """Return after the start message."""
    await start(send)


@app.at("/early")
async def return_early(scope: Scope, receive: Receive, send: Send) -> None:
    """Return in the middle of a chunked body."""
    await start(send)
    await chunk(send, b"first")


@app.at("/early-with-length")
async def return_early_with_length(scope: Scope, receive: Receive, send: Send) -> None:
    """Return in the middle of a body with a length."""
    await start(send, (b"content-length", b"10"))
    await chunk(send, b"first")


@app.at("/background-task")
async def fail_in_background(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, and fail in a task nobody awaits."""

    async def fail() -> None:
        raise ValueError("raised in the background")

    task = asyncio.create_task(fail())
    await answer(send, b"fine")
    await asyncio.wait({task})
    task.exception()


@app.at("/warning")
async def warn(scope: Scope, receive: Receive, send: Send) -> None:
    """Warn, which is no error."""
    warnings.warn("only a warning", stacklevel=1)
    await answer(send, b"fine")
