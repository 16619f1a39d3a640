"""The event loop: asyncio's own, over a selector that is tokio's reactor."""

from __future__ import annotations

import abc
import asyncio
import selectors
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, cast

from rsgi._native import Selector, SelectorMap

__all__ = ["EventLoop", "new_event_loop"]


T = TypeVar("T")

# asyncio asks its loop for both at the start of every task. These are answers without a frame.
_no = bool
_yes = partial(bool, True)

# What native classes cannot inherit they can be declared to be. (`BaseSelector.register` is the
# selector's method.)
abc.ABCMeta.register(selectors.BaseSelector, Selector)
Mapping.register(SelectorMap)


class EventLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose `select()` runs tokio on the same thread.

    Timers, callbacks, subprocesses, signals, TLS and executors are asyncio's own code. It also runs
    programs that serve nothing: `asyncio.run(main(), loop_factory=rsgi.new_event_loop)`.
    """

    # asyncio's own; its stubs do not tell.
    _csock: socket.socket
    _signal_handlers: dict[int, asyncio.Handle]

    def __init__(self) -> None:
        self._native_selector = Selector()
        super().__init__(cast("selectors.BaseSelector", self._native_selector))
        self._native_selector.attach(self)

    def set_debug(self, enabled: bool) -> None:
        """Switch debug mode on or off."""
        super().set_debug(enabled)
        self._answer("get_debug", None if enabled else _no)

    def set_task_factory(self, factory: Any) -> None:
        """Make tasks with `factory`, or with `asyncio.Task` where that is `None`."""
        super().set_task_factory(factory)
        self._native_selector.has_task_factory = factory is not None

    def _run_forever_setup(self) -> None:
        # Of Python 3.13 and later; before, nobody calls it, and asyncio's own method answers.
        super()._run_forever_setup()  # type: ignore[misc]
        self._answer("is_running", _yes)

    def _run_forever_cleanup(self) -> None:
        self._answer("is_running", None)
        super()._run_forever_cleanup()  # type: ignore[misc]

    def _answer(self, method: str, answer: Callable[[], bool] | None) -> None:
        """Have `method` answered by something quicker, or by itself. A subclass keeps its own."""
        is_ours = getattr(type(self), method) is getattr(asyncio.SelectorEventLoop, method)
        if answer is not None and is_ours:
            vars(self)[method] = answer
        else:
            vars(self).pop(method, None)

    def run_forever(self) -> None:
        """Run until `stop()` is called."""
        with self._signals_wake():
            super().run_forever()

    @contextmanager
    def _signals_wake(self) -> Iterator[None]:
        """Let every signal end the loop's sleep, also one that comes just before it begins.

        asyncio asks for this for the handlers of the loop only. The handlers of `signal.signal` run
        when the interpreter looks for them, and a sleeping loop does not look.
        """
        if self.is_closed() or threading.current_thread() is not threading.main_thread():
            yield  # a closed loop says so itself
            return
        before = signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        if before != -1:  # somebody has asked for it before, and keeps it
            signal.set_wakeup_fd(before)
        try:
            yield
        finally:
            if before == -1 and not self._signal_handlers:
                signal.set_wakeup_fd(-1)

    def remove_signal_handler(self, sig: int) -> bool:
        """Remove a handler of the loop; the others go on waking it."""
        removed = super().remove_signal_handler(sig)
        is_ours = threading.current_thread() is threading.main_thread()
        if removed and is_ours and self.is_running() and not self._signal_handlers:
            signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        return removed

    def stop(self) -> None:
        """Stop running; also from code inside `select()`, such as an application's first step."""
        super().stop()
        self._native_selector.wake()


def new_event_loop() -> EventLoop:
    """Return a new event loop; a `loop_factory` for `asyncio.run` and `asyncio.Runner`."""
    return EventLoop()


async def await_it(awaitable: Awaitable[T]) -> T:
    """Await any awaitable, as a coroutine that can become a task."""
    return await awaitable
