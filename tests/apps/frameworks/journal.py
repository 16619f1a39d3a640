"""What the applications here share: a journal, a context variable, facts about the task."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import anyio
import sniffio

entries: dict[str, list[str]] = {}
lifespan: list[str] = []
user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
TICKS = [f"tick {number}" for number in range(5)]


def note(key: str, entry: str) -> None:
    """Write into a journal."""
    entries.setdefault(key, []).append(entry)


async def context_facts(name: str) -> dict[str, Any]:
    """Set the context variable, let others run, and tell what it holds."""
    before = user.get()
    user.set(name)
    await asyncio.sleep(0.02)
    return {"before": before, "after": user.get()}


async def task_facts() -> dict[str, Any]:
    """Tell what asyncio, sniffio and anyio take the running task for."""
    task = asyncio.current_task()
    return {
        "kind": f"{type(task).__module__}.{type(task).__name__}",
        "is_task": isinstance(task, asyncio.Task),
        "among_all": task in asyncio.all_tasks(),
        "sniffio": sniffio.current_async_library(),
        "anyio": anyio.get_current_task().id == id(task),
    }


async def group_facts() -> dict[str, Any]:
    """Run an anyio task group with a limit, and one that is cancelled."""
    results: list[int] = []

    async def work(number: int) -> None:
        await anyio.sleep(0.001 * number)
        results.append(number)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for number in (3, 1, 2):
                group.start_soon(work, number)
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep_forever()
    return {"results": results, "cancelled": scope.cancelled_caught}


def thread_facts() -> dict[str, Any]:
    """Tell whether this is a thread of a pool."""
    return {"main": threading.current_thread() is threading.main_thread()}
