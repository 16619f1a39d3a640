"""Programs that serve nothing: `asyncio.run`, `asyncio.Runner`, eager tasks, real-life shapes."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .programs import run_within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .conftest import LoopFactory
    from .programs import Program

    Loop = asyncio.SelectorEventLoop

needs_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")


def test_the_loop_is_a_selector_event_loop(loop: Loop) -> None:
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert not loop.is_running()
    assert not loop.is_closed()


def test_the_class_of_the_loop_is_a_factory_and_a_base(
    kind: str, loop_factory: LoopFactory
) -> None:
    base: Any = asyncio.SelectorEventLoop
    if kind == "rsgi":
        base = importlib.import_module("rsgi").EventLoop
    assert issubclass(base, asyncio.SelectorEventLoop)
    loop = loop_factory()
    assert isinstance(loop, base)
    loop.close()
    with asyncio.Runner(loop_factory=base) as runner:
        assert runner.run(asyncio.sleep(0.001, "done")) == "done"

    class Derived(base):  # type: ignore[misc]
        pass

    with asyncio.Runner(loop_factory=Derived) as runner:
        assert runner.run(asyncio.sleep(0.001, "done")) == "done"


def test_asyncio_runner_takes_the_factory(loop_factory: LoopFactory) -> None:
    async def main() -> type[object]:
        await asyncio.sleep(0.001)
        return type(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        first = runner.run(main())
        assert runner.run(main()) is first
        assert issubclass(first, asyncio.SelectorEventLoop)


@needs_3_12
def test_asyncio_run_takes_the_factory(loop_factory: LoopFactory) -> None:
    async def main() -> str:
        await asyncio.sleep(0.001)
        return "done"

    run: Any = asyncio.run
    assert run(main(), loop_factory=loop_factory) == "done"
    assert run(main(), loop_factory=loop_factory, debug=True) == "done"


def test_a_runner_cancels_what_is_left_and_closes_generators(loop_factory: LoopFactory) -> None:
    events: list[str] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            events.append("task")

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            events.append("generator")

    kept: list[object] = []

    async def main() -> None:
        kept.append(asyncio.create_task(background()))
        generator = numbers()
        kept.append(generator)
        await anext(generator)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert events == ["task", "generator"]


def test_an_exception_of_main_leaves_the_runner(loop_factory: LoopFactory) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise ValueError("deliberate")

    with (
        asyncio.Runner(loop_factory=loop_factory) as runner,
        pytest.raises(ValueError, match="deliberate"),
    ):
        runner.run(main())


def test_a_program_runs_from_start_to_end(program: Program) -> None:
    source = """
    async def main():
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(asyncio.sleep(number / 1000))
        async with asyncio.timeout(5):
            say(await asyncio.to_thread(lambda: "thread"))
        process = await asyncio.create_subprocess_exec("true")
        say(await process.wait())
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    """
    assert program.run(source) == ["thread", "0"]


def test_timeouts_cancel_what_takes_too_long(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(3600), 0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(3600), 0)

    run_within(loop, main)


def test_tasks_run_in_the_order_they_were_made(loop: Loop) -> None:
    seen: list[tuple[int, int]] = []

    async def one(number: int) -> None:
        for turn in range(3):
            seen.append((turn, number))
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(50)))

    run_within(loop, main)
    assert seen == sorted(seen)


def test_ten_thousand_tasks_sleep_and_wake(loop: Loop) -> None:
    async def one(number: int) -> int:
        await asyncio.sleep(number % 10 / 1000)
        return number

    async def main() -> None:
        assert await asyncio.gather(*(one(n) for n in range(10_000))) == list(range(10_000))

    run_within(loop, main)


def test_current_task_and_running_loop_are_set_inside_and_not_outside(loop: Loop) -> None:
    async def main() -> None:
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is not None
        assert loop.is_running()

    run_within(loop, main)
    assert asyncio._get_running_loop() is None
    assert asyncio.current_task(loop) is None


@needs_3_12
def test_eager_tasks_run_their_first_step_at_once(loop: Loop) -> None:
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    loop.set_task_factory(factory)
    seen: list[str] = []

    async def immediate() -> str:
        seen.append("immediate")
        return "result"

    async def waiting() -> str:
        seen.append("started")
        await asyncio.sleep(0.001)
        seen.append("finished")
        return "later"

    async def main() -> None:
        first = asyncio.create_task(immediate())
        assert seen == ["immediate"]
        assert first.done()
        assert first.result() == "result"
        second = asyncio.create_task(waiting())
        assert seen[-1] == "started"
        assert not second.done()
        assert await second == "later"
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(waiting()) for _ in range(100)]
        assert {task.result() for task in tasks} == {"later"}

    run_within(loop, main)


@needs_3_12
def test_an_eager_task_made_by_a_reader_belongs_to_the_loop(loop: Loop) -> None:
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    loop.set_task_factory(factory)
    seen: list[object] = []

    async def step() -> None:
        seen.append(asyncio.current_task())
        seen.append(asyncio.get_running_loop())
        await asyncio.sleep(0.001)
        loop.stop()

    tasks: list[asyncio.Task[None]] = []
    loop.call_soon(lambda: tasks.append(loop.create_task(step())))
    loop.run_forever()
    assert seen == [tasks[0], loop]
