"""The loop and other threads: waking it, moving it, several of them, collecting it elsewhere."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import socket
import statistics
import threading
import time
import weakref
from typing import TYPE_CHECKING, TypeVar

import pytest

from .programs import run_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import LoopFactory

    Loop = asyncio.SelectorEventLoop

Result = TypeVar("Result")


def in_thread(work: Callable[[], Result]) -> Result:
    """Run `work` in a new thread and return its result, or raise what it raised."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(30)


def exercise(loop: Loop) -> None:
    """Use timers, callbacks, sockets and threads of a loop."""

    async def main() -> None:
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        with left, right:
            await loop.sock_sendall(right, b"hello")
            assert await loop.sock_recv(left, 100) == b"hello"
        await asyncio.sleep(0.001)
        assert await loop.run_in_executor(None, sum, [1, 2]) == 3

    run_within(loop, main)


def finish(loop: Loop) -> None:
    """Close a loop and its executor."""
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_call_soon_threadsafe_wakes_a_sleeping_loop(loop: Loop) -> None:
    latencies: list[float] = []
    asleep = threading.Semaphore(0)

    def arrived(sent: float) -> None:
        latencies.append(time.perf_counter() - sent)
        if len(latencies) == 100:
            loop.stop()
        else:
            asleep.release()

    def work() -> None:
        for _ in range(100):
            assert asleep.acquire(timeout=10)
            time.sleep(0.001)  # the loop goes to sleep: what is tested is that it wakes
            loop.call_soon_threadsafe(arrived, time.perf_counter())

    thread = threading.Thread(target=work)
    thread.start()
    asleep.release()
    loop.run_forever()
    thread.join()
    assert statistics.median(latencies) < 0.005


def test_call_soon_threadsafe_reaches_a_busy_loop(loop: Loop) -> None:
    seen: list[int] = []

    def again() -> None:
        loop.call_soon(again)

    def work() -> None:
        for number in range(500):
            loop.call_soon_threadsafe(seen.append, number)
        loop.call_soon_threadsafe(loop.stop)

    loop.call_soon(again)
    thread = threading.Thread(target=work)
    thread.start()
    loop.run_forever()
    thread.join()
    assert seen == list(range(500))


def test_call_soon_threadsafe_from_many_threads_loses_nothing(loop: Loop) -> None:
    seen: list[tuple[int, int]] = []

    def arrived(sender: int, number: int) -> None:
        seen.append((sender, number))
        if len(seen) == 8 * 500:
            loop.stop()

    def work(sender: int) -> None:
        for number in range(500):
            loop.call_soon_threadsafe(arrived, sender, number)

    threads = [threading.Thread(target=work, args=(sender,)) for sender in range(8)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    for sender in range(8):
        assert [number for who, number in seen if who == sender] == list(range(500))


def test_call_soon_threadsafe_before_the_loop_runs_is_not_lost(loop: Loop) -> None:
    in_thread(lambda: loop.call_soon_threadsafe(loop.stop))
    loop.run_forever()


def test_a_sleeping_loop_is_stopped_from_another_thread(loop: Loop) -> None:
    timer = threading.Timer(0.05, loop.call_soon_threadsafe, [loop.stop])
    timer.start()
    loop.run_forever()
    timer.join()


def test_call_soon_threadsafe_races_with_close(loop_factory: LoopFactory) -> None:
    for _ in range(20):
        loop = loop_factory()
        go = threading.Event()

        def work(loop: Loop = loop, go: threading.Event = go) -> None:
            go.wait(10)
            while True:
                try:
                    loop.call_soon_threadsafe(int)
                except RuntimeError:
                    return

        thread = threading.Thread(target=work)
        thread.start()
        go.set()
        loop.run_until_complete(asyncio.sleep(0.002))
        loop.close()
        thread.join(10)
        assert not thread.is_alive()


def test_run_coroutine_threadsafe_returns_the_result(loop: Loop) -> None:
    async def answer(value: int) -> int:
        await asyncio.sleep(0.001)
        return value

    def work() -> list[int]:
        futures = [asyncio.run_coroutine_threadsafe(answer(n), loop) for n in range(50)]
        return [future.result(10) for future in futures]

    async def main() -> None:
        assert await loop.run_in_executor(None, work) == list(range(50))

    run_within(loop, main)


def test_run_in_executor_returns_results_and_errors(loop: Loop) -> None:
    def fail() -> None:
        raise ValueError("deliberate")

    async def main() -> None:
        results = await asyncio.gather(*(loop.run_in_executor(None, abs, -n) for n in range(200)))
        assert results == list(range(200))
        with pytest.raises(ValueError, match="deliberate"):
            await loop.run_in_executor(None, fail)

    run_within(loop, main)


def test_run_in_executor_answers_a_sleeping_loop_quickly(loop: Loop) -> None:
    times: list[float] = []

    async def main() -> None:
        for _ in range(200):
            start = time.perf_counter()
            await loop.run_in_executor(None, int)
            times.append(time.perf_counter() - start)

    run_within(loop, main)
    assert statistics.median(times) < 0.005


def test_to_thread_nests_through_loops_of_its_own(loop: Loop, loop_factory: LoopFactory) -> None:
    """A thread of the first loop runs a second loop, whose thread runs a third."""

    def level(depth: int) -> int:
        if depth == 0:
            return 0
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return 1 + runner.run(asyncio.to_thread(level, depth - 1))

    async def main() -> None:
        assert await asyncio.gather(*(asyncio.to_thread(level, 3) for _ in range(4))) == [3] * 4

    run_within(loop, main)


def test_a_thread_waits_for_the_loop_that_waits_for_the_thread(loop: Loop) -> None:
    """What anyio.from_thread.run does."""

    async def inner(value: int) -> int:
        return await asyncio.to_thread(lambda: value + 1)

    def work(value: int) -> int:
        return asyncio.run_coroutine_threadsafe(inner(value), loop).result(10)

    async def main() -> None:
        results = await asyncio.gather(*(asyncio.to_thread(work, n) for n in range(3)))
        assert results == [1, 2, 3]

    run_within(loop, main)


def test_a_loop_created_in_one_thread_runs_in_another(loop_factory: LoopFactory) -> None:
    loop = in_thread(loop_factory)
    exercise(loop)
    in_thread(lambda: exercise(loop))
    exercise(loop)
    in_thread(lambda: finish(loop))
    assert loop.is_closed()


def test_a_loop_created_here_is_run_and_closed_in_another_thread(
    loop_factory: LoopFactory,
) -> None:
    loop = loop_factory()
    in_thread(lambda: exercise(loop))
    in_thread(lambda: finish(loop))
    assert loop.is_closed()


def test_loops_in_several_threads_do_not_disturb_each_other(loop_factory: LoopFactory) -> None:
    def work(number: int) -> int:
        loop = loop_factory()
        try:
            for _ in range(20):
                exercise(loop)
            return number
        finally:
            finish(loop)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6), timeout=50)) == list(range(6))


def test_loops_in_two_threads_talk_to_each_other(loop: Loop, loop_factory: LoopFactory) -> None:
    second = loop_factory()
    thread = threading.Thread(target=second.run_forever)
    thread.start()

    async def double(value: int) -> int:
        await asyncio.sleep(0)
        return 2 * value

    async def main() -> None:
        for value in range(100):
            there = asyncio.run_coroutine_threadsafe(double(value), second)
            assert await asyncio.wrap_future(there) == 2 * value

    run_within(loop, main)
    second.call_soon_threadsafe(second.stop)
    thread.join(10)
    second.close()


def test_two_loops_take_turns_in_one_thread(loop: Loop, loop_factory: LoopFactory) -> None:
    second = loop_factory()
    for _ in range(20):
        exercise(loop)
        exercise(second)
    finish(second)


def tie(loop: Loop) -> None:
    """Put a loop in a reference cycle, so that only the collector frees it."""
    loop.me = loop  # type: ignore[attr-defined]


def abandoned(loop_factory: LoopFactory, *, run: bool) -> weakref.ref[Loop]:
    """Make a closed loop that is garbage, with its selector, in a cycle."""
    loop = loop_factory()
    if run:
        exercise(loop)
    finish(loop)
    tie(loop)
    return weakref.ref(loop)


@pytest.mark.parametrize("run", [False, True])
def test_a_closed_loop_is_collected_by_another_thread(loop_factory: LoopFactory, run: bool) -> None:
    references = [abandoned(loop_factory, run=run) for _ in range(10)]
    in_thread(gc.collect)
    assert [reference() for reference in references] == [None] * 10


@pytest.mark.parametrize("run", [False, True])
def test_a_closed_loop_is_collected_inside_another_running_loop(
    loop: Loop, loop_factory: LoopFactory, run: bool
) -> None:
    async def main() -> None:
        references = await asyncio.to_thread(
            lambda: [abandoned(loop_factory, run=run) for _ in range(10)]
        )
        gc.collect()
        assert [reference() for reference in references] == [None] * 10
        await asyncio.sleep(0.001)

    run_within(loop, main)
    exercise(loop)


def test_an_unclosed_loop_is_collected_by_another_thread_with_a_warning(
    loop_factory: LoopFactory,
) -> None:
    loop = loop_factory()
    reference = weakref.ref(loop)
    # The sockets of the loop's own pipe would warn, too, and not from a place to catch it.
    pipe = loop._ssock, loop._csock  # type: ignore[attr-defined]
    tie(loop)
    del loop
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        in_thread(gc.collect)
    assert reference() is None
    for sock in pipe:
        sock.close()


def test_a_loop_dropped_by_the_thread_that_never_ran_it(loop_factory: LoopFactory) -> None:
    loops = [loop_factory() for _ in range(5)]
    for loop in loops:
        exercise(loop)
        finish(loop)
    del loop
    in_thread(loops.clear)
    gc.collect()


def test_the_collector_runs_in_a_thread_while_the_loop_works(loop: Loop) -> None:
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            gc.collect()

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for _ in range(20):
            exercise(loop)
    finally:
        stop.set()
        thread.join()
