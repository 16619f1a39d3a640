"""Signals: handlers of the loop, handlers of Python, and Ctrl-C in every state of the loop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from .programs import run_within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .programs import Program

    Loop = asyncio.SelectorEventLoop


@pytest.fixture
def handler() -> Iterator[Callable[[int, Callable[[], object]], None]]:
    """Yield what sets a Python signal handler for the duration of the test."""
    previous = {}

    def install(number: int, action: Callable[[], object]) -> None:
        previous[number] = signal.signal(number, lambda _number, _frame: action())

    yield install
    for number, old in previous.items():
        signal.signal(number, old)


def raise_later(number: int, seconds: float = 0.05) -> threading.Timer:
    """Send a signal to this process from another thread, while the loop sleeps."""
    timer = threading.Timer(seconds, os.kill, [os.getpid(), number])
    timer.start()
    return timer


def test_a_handler_of_the_loop_wakes_a_sleeping_loop(loop: Loop) -> None:
    seen: list[str] = []

    def handle() -> None:
        seen.append("USR1")
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handle)
    start = time.monotonic()
    timer = raise_later(signal.SIGUSR1)
    loop.run_forever()
    timer.join()
    assert seen == ["USR1"]
    assert time.monotonic() - start < 2
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert not loop.remove_signal_handler(signal.SIGUSR1)


def test_a_handler_of_the_loop_reaches_a_busy_loop(loop: Loop) -> None:
    def again() -> None:
        loop.call_soon(again)

    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.call_soon(again)
    timer = raise_later(signal.SIGUSR1)
    loop.run_forever()
    timer.join()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_handler_of_python_runs_while_the_loop_sleeps_with_nothing_to_wait_for(
    loop: Loop, handler: Callable[[int, Callable[[], object]], None]
) -> None:
    """No timer and no traffic: only the signal itself ends the sleep."""
    handled: list[float] = []

    def handle() -> None:
        handled.append(time.perf_counter())
        loop.call_soon_threadsafe(loop.stop)

    handler(signal.SIGUSR1, handle)
    timer = raise_later(signal.SIGUSR1)
    loop.run_forever()
    timer.join()
    assert len(handled) == 1


def test_a_handler_of_python_runs_at_once_and_not_with_the_next_event(
    loop: Loop, handler: Callable[[int, Callable[[], object]], None]
) -> None:
    latencies: list[float] = []
    due = 0.0
    handler(signal.SIGALRM, lambda: latencies.append(time.perf_counter() - due))
    for _ in range(5):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        due = time.perf_counter() + 0.02
        loop.call_later(0.3, loop.stop)
        loop.run_forever()
    assert len(latencies) == 5
    assert sorted(latencies)[2] < 0.1


def test_many_signals_in_a_row_do_not_disturb_the_loop(
    loop: Loop, handler: Callable[[int, Callable[[], object]], None]
) -> None:
    count = 0

    def handle() -> None:
        nonlocal count
        count += 1

    handler(signal.SIGALRM, handle)

    async def main() -> None:
        reader, writer = os.pipe()
        for _ in range(50):
            await asyncio.sleep(0.002)
            assert await loop.run_in_executor(None, abs, -1) == 1
        os.close(reader)
        os.close(writer)

    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        run_within(loop, main)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert count > 5


def test_a_signal_does_not_end_a_sleep_early(
    loop: Loop, handler: Callable[[int, Callable[[], object]], None]
) -> None:
    handler(signal.SIGUSR1, int)
    timer = raise_later(signal.SIGUSR1, 0.02)
    start = loop.time()
    loop.run_until_complete(asyncio.sleep(0.1))
    timer.join()
    assert loop.time() - start >= 0.099


class HandlerError(Exception):
    """Raised by a signal handler."""


def test_an_exception_from_a_handler_of_python_leaves_run_forever(
    loop: Loop, handler: Callable[[int, Callable[[], object]], None]
) -> None:
    def fail() -> None:
        raise HandlerError

    handler(signal.SIGUSR1, fail)
    timer = raise_later(signal.SIGUSR1)
    with pytest.raises(HandlerError):
        loop.run_forever()
    timer.join()
    assert not loop.is_running()
    loop.run_until_complete(asyncio.sleep(0.001))


def test_the_wakeup_fd_is_the_same_after_the_loop_as_before(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    timer = raise_later(signal.SIGUSR1, 0.01)
    loop.run_forever()
    timer.join()
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.close()
    before = signal.set_wakeup_fd(-1)
    assert before == -1


def test_signal_handlers_are_refused_outside_the_main_thread(loop: Loop) -> None:
    async def main() -> None:
        loop.add_signal_handler(signal.SIGUSR1, int)

    errors: list[BaseException] = []

    def work() -> None:
        try:
            run_within(loop, main)
        except (ValueError, RuntimeError) as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(errors) == 1


SLEEPING = """
async def main():
    try:
        say("ready")
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("cancelled")
        raise
"""
WITH_TIMER = SLEEPING.replace("asyncio.Event().wait()", "asyncio.sleep(3600)")
BUSY = SLEEPING.replace("await asyncio.Event().wait()", "while True: await asyncio.sleep(0)")
READING = SLEEPING.replace(
    "await asyncio.Event().wait()",
    "import socket; a, b = socket.socketpair(); a.setblocking(False); "
    "await asyncio.get_running_loop().sock_recv(a, 1)",
)
RUNNER = """
with asyncio.Runner(loop_factory=new_event_loop) as runner:
    try:
        runner.run(main())
    except KeyboardInterrupt:
        say("interrupted")
"""


@pytest.mark.parametrize(
    "main",
    [SLEEPING, WITH_TIMER, BUSY, READING],
    ids=["asleep", "asleep on a timer", "busy", "reading"],
)
def test_ctrl_c_cancels_the_main_task_of_a_runner(program: Program, main: str) -> None:
    with program.started(main + RUNNER) as process:
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
        assert output.split() == ["cancelled", "interrupted"], errors
        assert process.returncode == 0
        assert time.monotonic() - start < 2


def test_ctrl_c_in_a_callback_that_never_returns_raises_at_once(program: Program) -> None:
    source = """
    async def main():
        say("ready")
        try:
            while not asyncio.current_task().cancelling():
                pass
            say("first")
            while True:
                pass
        except BaseException as error:
            say(type(error).__name__)
            raise
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            runner.run(main())
        except BaseException as error:
            say(type(error).__name__)
    """
    with program.started(source) as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGINT)  # only cancels
        assert process.stdout.readline() == "first\n"
        process.send_signal(signal.SIGINT)  # raises
        output, errors = process.communicate(timeout=20)
        assert output.split() == ["KeyboardInterrupt", "KeyboardInterrupt"], errors


def test_a_second_ctrl_c_ends_a_task_that_swallows_the_first(program: Program) -> None:
    source = """
    async def main():
        say("ready")
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                say("swallowed")
                asyncio.current_task().uncancel()
    runner = asyncio.Runner(loop_factory=new_event_loop)
    try:
        runner.run(main())
    except KeyboardInterrupt:
        say("interrupted")
    """
    with program.started(source) as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "swallowed\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"


def test_ctrl_c_without_a_runner_leaves_run_forever(program: Program) -> None:
    source = """
    loop = new_event_loop()
    loop.call_soon(say, "ready")
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        say("interrupted")
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    say("closed")
    """
    with program.started(source) as process:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
        assert output.split() == ["interrupted", "closed"], errors
        assert process.returncode == 0


def test_ctrl_c_that_nobody_catches_ends_the_program_by_the_signal(program: Program) -> None:
    source = SLEEPING + "asyncio.Runner(loop_factory=new_event_loop).run(main())"
    with program.started(source) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == -signal.SIGINT
        assert "KeyboardInterrupt" in errors


def test_sigterm_ends_a_sleeping_program(program: Program) -> None:
    with program.started(SLEEPING + RUNNER) as process:
        process.terminate()
        process.communicate(timeout=20)
        assert process.returncode == -signal.SIGTERM


def test_a_stopped_and_continued_program_goes_on(program: Program) -> None:
    source = """
    async def main():
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        say("ready")
        say((await reader.readline()).decode())
        await asyncio.sleep(0.01)
        say("done")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    """
    with program.started(source) as process:
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGCONT)
        output, errors = process.communicate("line\n", timeout=20)
        assert output.split() == ["line", "done"], errors
