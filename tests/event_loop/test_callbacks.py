"""What runs in which order: callbacks, timers, `stop()` and exceptions."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from .programs import run_within

if TYPE_CHECKING:
    import socket

    from .conftest import LoopFactory

    Loop = asyncio.SelectorEventLoop


def stop_later(loop: Loop, seconds: float = 0.01) -> None:
    """Stop the loop by a timer, so that ready callbacks come first."""
    loop.call_later(seconds, loop.stop)


def test_callbacks_run_in_the_order_they_were_scheduled(loop: Loop) -> None:
    seen: list[int] = []
    for number in range(1000):
        loop.call_soon(seen.append, number)
    stop_later(loop)
    loop.run_forever()
    assert seen == list(range(1000))


def test_a_callback_scheduled_by_a_callback_runs_one_turn_later(loop: Loop) -> None:
    seen: list[str] = []

    def first() -> None:
        loop.call_soon(seen.append, "third")
        seen.append("first")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    stop_later(loop)
    loop.run_forever()
    assert seen == ["first", "second", "third"]


def test_a_cancelled_callback_does_not_run(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(seen.append, "cancelled").cancel()
    loop.call_soon(seen.append, "kept")
    stop_later(loop)
    loop.run_forever()
    assert seen == ["kept"]


def test_callbacks_run_in_the_context_they_were_given(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outer")
    inner = contextvars.copy_context()
    inner.run(variable.set, "inner")
    seen: list[str] = []

    def note() -> None:
        seen.append(variable.get())

    loop.call_soon(note, context=inner)
    loop.call_soon(note)
    loop.call_later(0.001, note, context=inner)
    stop_later(loop)
    loop.run_forever()
    assert seen == ["inner", "outer", "inner"]


def test_a_reader_runs_in_the_context_of_its_registration(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outer")
    left, right = pair
    seen: list[str] = []

    def readable() -> None:
        seen.append(variable.get())
        loop.remove_reader(left)
        loop.stop()

    inner = contextvars.copy_context()
    inner.run(variable.set, "inner")
    inner.run(loop.add_reader, left, readable)
    right.send(b"x")
    loop.run_forever()
    assert seen == ["inner"]


def test_timers_fire_in_the_order_of_their_times(loop: Loop) -> None:
    seen: list[int] = []
    delays = [30, 10, 50, 20, 40, 0, 5]
    for delay in delays:
        loop.call_later(delay / 1000, seen.append, delay)
    stop_later(loop, 0.08)
    loop.run_forever()
    assert seen == sorted(delays)


def test_a_timer_never_fires_early(loop: Loop) -> None:
    delays = [0.0005, 0.001, 0.0015, 0.004, 0.0101, 0.05]
    early: list[float] = []

    def fired(due: float) -> None:
        # `_run_once` deliberately takes timers that are due within one tick of the clock.
        if loop.time() < due - time.get_clock_info("monotonic").resolution:
            early.append(due)

    for delay in delays:
        due = loop.time() + delay
        loop.call_at(due, fired, due)
    stop_later(loop, 0.07)
    loop.run_forever()
    assert early == []


def test_a_timer_of_zero_fires_without_sleeping(loop: Loop) -> None:
    start = loop.time()
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        if count == 1000:
            loop.stop()
        else:
            loop.call_later(0, again)

    loop.call_soon(again)
    loop.run_forever()
    assert loop.time() - start < 0.5


def test_a_timer_in_the_past_fires_at_once(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_at(loop.time() - 100, seen.append, "past")
    loop.call_later(-5, seen.append, "negative")
    stop_later(loop)
    loop.run_forever()
    assert sorted(seen) == ["negative", "past"]


def test_a_cancelled_timer_does_not_fire(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_later(0.001, seen.append, "cancelled").cancel()
    late = loop.call_later(0.02, seen.append, "cancelled by a callback")
    loop.call_later(0.002, late.cancel)
    stop_later(loop, 0.03)
    loop.run_forever()
    assert seen == []


@pytest.mark.parametrize("delay", [86_400.0, 10.0**7, 10.0**9, 10.0**12, 10.0**18, 1e300])
def test_a_very_long_timer_does_not_disturb_the_others(loop: Loop, delay: float) -> None:
    handle = loop.call_later(delay, pytest.fail, "too early")
    stop_later(loop)
    loop.run_forever()
    assert not handle.cancelled()
    handle.cancel()


@pytest.mark.parametrize("delay", [86_400.0, 10.0**9, 10.0**18, 1e300])
def test_a_loop_asleep_on_a_very_long_timer_wakes_for_a_socket(
    loop: Loop, pair: tuple[socket.socket, socket.socket], delay: float
) -> None:
    left, right = pair
    handle = loop.call_later(delay, pytest.fail, "too early")
    loop.add_reader(left, loop.stop)
    # Written by a thread: a timer of the loop would end the long sleep itself.
    waker = threading.Timer(0.05, right.send, [b"x"])
    waker.start()
    loop.run_forever()
    waker.join()
    loop.remove_reader(left)
    handle.cancel()


def test_many_cancelled_timers_are_forgotten(loop: Loop) -> None:
    for _ in range(10_000):
        loop.call_later(3600, pytest.fail).cancel()
    stop_later(loop, 0.001)
    loop.run_forever()
    assert len(loop._scheduled) < 1000  # type: ignore[attr-defined]


def test_an_exception_in_a_callback_goes_to_the_handler_and_the_loop_goes_on(loop: Loop) -> None:
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))
    seen: list[str] = []
    error = ValueError("deliberate")

    def fail() -> None:
        raise error

    loop.call_soon(fail)
    loop.call_later(0.001, fail)
    loop.call_later(0.002, seen.append, "after")
    stop_later(loop)
    loop.run_forever()
    assert [context["exception"] for context in contexts] == [error, error]
    assert seen == ["after"]


def test_an_exception_in_a_reader_goes_to_the_handler_and_the_loop_goes_on(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))

    def fail() -> None:
        left.recv(1)
        raise ValueError("deliberate")

    loop.add_reader(left, fail)
    right.send(b"ab")
    stop_later(loop, 0.05)
    loop.run_forever()
    loop.remove_reader(left)
    assert [str(context["exception"]) for context in contexts] == ["deliberate", "deliberate"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("source", ["call_soon", "timer", "reader", "task"])
def test_an_interrupt_in_a_callback_leaves_run_forever(
    loop: Loop,
    pair: tuple[socket.socket, socket.socket],
    error: type[BaseException],
    source: str,
) -> None:
    left, right = pair

    def fail() -> None:
        loop.remove_reader(left)
        raise error

    async def fail_later() -> None:
        await asyncio.sleep(0.001)
        raise error

    task: asyncio.Task[None] | None = None
    if source == "call_soon":
        loop.call_soon(fail)
    elif source == "timer":
        loop.call_later(0.001, fail)
    elif source == "reader":
        loop.add_reader(left, fail)
        right.send(b"x")
    else:
        task = loop.create_task(fail_later())
    with pytest.raises(error):
        loop.run_forever()
    assert not loop.is_running()
    assert not loop.is_closed()
    # The loop is usable afterwards.
    loop.run_until_complete(asyncio.sleep(0.001))
    if task is not None:
        assert isinstance(task.exception(), error)


def test_stop_from_inside_finishes_the_turn_that_is_running(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, "same turn")
    loop.call_soon(lambda: loop.call_soon(seen.append, "next turn"))
    loop.run_forever()
    assert seen == ["same turn"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["same turn", "next turn"]


def test_stop_before_run_forever_runs_one_turn(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(seen.append, "once")
    loop.stop()
    loop.run_forever()
    assert seen == ["once"]


def test_stop_from_a_reader_ends_the_loop(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    loop.add_reader(left, loop.stop)
    right.send(b"x")
    loop.run_forever()
    assert loop.remove_reader(left)


def test_a_loop_runs_again_after_it_was_stopped(loop: Loop) -> None:
    for number in range(50):
        assert loop.run_until_complete(asyncio.sleep(0, number)) == number
        stop_later(loop, 0)
        loop.run_forever()


def test_a_running_loop_cannot_be_closed(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="Cannot close a running"):
            loop.close()

    run_within(loop, main)


@pytest.mark.skipif(
    sys.version_info[:3] == (3, 13, 0),
    reason="in 3.13.0 the refusal itself makes asyncio forget that the loop is running",
)
def test_a_running_loop_cannot_be_run(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        await asyncio.sleep(0.001)

    run_within(loop, main)


def test_a_second_loop_cannot_run_inside_the_first(loop: Loop, loop_factory: LoopFactory) -> None:
    second = loop_factory()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="another loop is running"):
            second.run_forever()

    try:
        run_within(loop, main)
        second.run_until_complete(asyncio.sleep(0))
    finally:
        second.close()


def test_a_closed_loop_refuses_everything(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.close()
    loop.close()
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_later(1, print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon_threadsafe(print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_reader(0, print)


def test_a_loop_never_run_is_closed_without_a_warning(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.call_later(3600, print)
    loop.call_soon(print)
    loop.close()


def test_debug_mode_reports_slow_callbacks(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.005
    loop.call_soon(time.sleep, 0.02)
    stop_later(loop)
    with caplog.at_level(logging.WARNING, logger="asyncio"):
        loop.run_forever()
    assert any("took" in record.getMessage() for record in caplog.records)


def test_debug_mode_refuses_call_soon_from_another_thread(loop: Loop) -> None:
    loop.set_debug(True)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            await loop.run_in_executor(None, loop.call_soon, print)

    run_within(loop, main)


def test_debug_mode_serves_sockets_and_timers(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    loop.set_debug(True)
    left, right = pair

    async def main() -> None:
        await loop.sock_sendall(right, b"hello")
        assert await loop.sock_recv(left, 100) == b"hello"
        await asyncio.sleep(0.01)

    run_within(loop, main)


def test_a_loop_says_whether_it_runs_and_whether_it_debugs(loop: Loop) -> None:
    told: list[tuple[bool, bool]] = []

    async def main() -> None:
        for enabled in (True, False, True, True, False, False):
            loop.set_debug(enabled)
            told.append((loop.is_running(), loop.get_debug()))

    for _ in range(2):
        assert (loop.is_running(), loop.get_debug()) == (False, False)
        run_within(loop, main)
    once = [(True, enabled) for enabled in (True, False, True, True, False, False)]
    assert told == once * 2
    loop.close()
    assert not loop.is_running()


def test_a_subclass_answers_for_itself(loop_factory: LoopFactory) -> None:
    plain = loop_factory()
    kind = type(plain)
    plain.close()
    asked: list[str] = []

    class Own(kind):  # type: ignore[misc, valid-type]
        def get_debug(self) -> bool:
            asked.append("get_debug")
            return bool(super().get_debug())

        def is_running(self) -> bool:
            asked.append("is_running")
            return bool(super().is_running())

    async def main() -> None:
        asked.clear()
        assert asyncio.get_running_loop().is_running()
        assert not asyncio.get_running_loop().get_debug()
        assert asked == ["is_running", "get_debug"]

    loop = Own()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
