"""Runs one module of CPython's own test suite on a chosen event loop, in this process.

Started by ``test_cpython.py``, one process per module. Every result is written to a file as one
line of JSON the moment it is known, so that a crash or a hang names the test that caused it. This
file must not know which results are expected.
"""

from __future__ import annotations

import argparse
import asyncio
import asyncio.unix_events
import faulthandler
import importlib
import json
import selectors
import sys
import time
import traceback
import unittest
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    ExceptionInfo = (
        tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
    )

# Resources of `test.support` that stay enabled. "network" means the Internet: a test may not
# depend on it.
RESOURCES = ("cpu", "subprocess", "walltime", "largefile")

STANDARD_SELECTORS = (
    selectors.EpollSelector,
    selectors.PollSelector,
    selectors.SelectSelector,
)


class Census:
    """Counts the event loops that were created, as the proof of what was tested."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.ours = 0
        self.others = 0
        self.turns = 0

    def add(self, loop: asyncio.SelectorEventLoop, *, ours: bool) -> None:
        """Count one loop, and check that its selector is the one that was asked for."""
        if not ours:
            self.others += 1
            return
        self.ours += 1
        standard = isinstance(getattr(loop, "_selector", None), STANDARD_SELECTORS)
        if standard != (self.kind == "asyncio"):
            raise RuntimeError(f"the `{self.kind}` loop has the selector of another")


def loop_class(kind: str) -> type[asyncio.SelectorEventLoop]:
    """Return the class under test."""
    if kind == "asyncio":
        return asyncio.SelectorEventLoop
    chosen = importlib.import_module("rsgi").EventLoop
    if not issubclass(chosen, asyncio.SelectorEventLoop):
        raise TypeError("`rsgi.EventLoop` is not an `asyncio.SelectorEventLoop`")
    return chosen  # type: ignore[no-any-return]


def counted_class(kind: str, census: Census) -> type[asyncio.SelectorEventLoop]:
    """Return a subclass of the loop under test that takes, and ignores, a selector argument.

    CPython's tests ask for ``SelectorEventLoop(selectors.EpollSelector())``, ``PollSelector`` and
    so on: all of them become the loop under test.
    """
    base: Any = loop_class(kind)
    created: Any = base.__init__

    class Counted(base):  # type: ignore[misc]
        def __new__(cls, selector: selectors.BaseSelector | None = None) -> Counted:
            return base.__new__(cls)  # type: ignore[no-any-return]

        def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
            if selector is not None:
                selector.close()
            created(self)
            census.add(self, ours=True)

        def _run_once(self) -> None:
            census.turns += 1
            super()._run_once()

    Counted.__name__ = Counted.__qualname__ = base.__name__
    return Counted


def install(kind: str) -> Census:
    """Make the loop under test the default of this process, and count what is created."""
    census = Census(kind)
    chosen = counted_class(kind, census)
    plain: Any = asyncio.unix_events._UnixSelectorEventLoop
    initialise = plain.__init__

    def counting(self: Any, selector: selectors.BaseSelector | None = None) -> None:
        initialise(self, selector)
        if not isinstance(self, chosen):
            census.add(self, ours=False)

    plain.__init__ = counting
    for module in (asyncio, asyncio.unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, chosen)
    policy = getattr(asyncio.unix_events, "_UnixDefaultEventLoopPolicy", None) or getattr(
        asyncio.unix_events, "_DefaultEventLoopPolicy", None
    )
    if policy is None:
        raise RuntimeError("this Python has no default event loop policy to patch")
    policy._loop_factory = chosen
    return census


class Recorder(unittest.TestResult):
    """Writes each outcome as it happens and ends the process if one test takes too long."""

    def __init__(self, output: IO[str], seconds_per_test: float, support: Any) -> None:
        super().__init__()
        self.support = support
        self.output = output
        self.seconds_per_test = seconds_per_test
        self.started = 0.0
        self.outcome: tuple[str, str] | None = None

    def write(self, **record: object) -> None:
        """Write one line and let it reach the file."""
        self.output.write(json.dumps(record) + "\n")
        self.output.flush()

    def note(self, outcome: str, detail: str = "") -> None:
        """Keep the worst outcome of the running test: the first one that is not a pass."""
        if self.outcome is None:
            self.outcome = (outcome, detail)

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self.outcome = None
        self.support.environment_altered = False
        self.started = time.monotonic()
        self.write(started=identify(test))
        faulthandler.dump_traceback_later(self.seconds_per_test, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        if self.support.environment_altered:
            self.note("altered", "left threads or child processes behind")
        outcome, detail = self.outcome or ("ok", "")
        seconds = round(time.monotonic() - self.started, 3) if self.started else 0.0
        self.started = 0.0
        self.write(test=identify(test), outcome=outcome, detail=detail, seconds=seconds)

    def addError(self, test: unittest.TestCase, err: ExceptionInfo) -> None:  # noqa: N802
        super().addError(test, err)
        self.note("error", self.describe(err))
        if not self.started:  # setUpClass or tearDownModule: no test is running
            self.write(test=str(test), outcome="error", detail=self.describe(err), seconds=0)

    def addFailure(self, test: unittest.TestCase, err: ExceptionInfo) -> None:  # noqa: N802
        super().addFailure(test, err)
        self.note("failure", self.describe(err))

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self.note("skip", reason)

    def addExpectedFailure(  # noqa: N802
        self, test: unittest.TestCase, err: ExceptionInfo
    ) -> None:
        super().addExpectedFailure(test, err)
        self.note("ok", "marked as an expected failure by CPython")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addUnexpectedSuccess(test)
        self.note("failure", "marked as an expected failure by CPython, and passed")

    def addSubTest(  # noqa: N802
        self,
        test: unittest.TestCase,
        subtest: unittest.TestCase,
        err: ExceptionInfo | None,
    ) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.note("failure", f"{subtest}\n{self.describe(err)}")

    def note_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Count an exception that Python could only have printed."""
        self.note("unraisable", f"{unraisable.err_msg}: {unraisable.exc_value!r}")

    @staticmethod
    def describe(err: ExceptionInfo) -> str:
        """Return the traceback as text, without the frames of unittest."""
        return "".join(traceback.format_exception(*err))


def identify(test: unittest.TestCase) -> str:
    """Return `Class.test_name`, without the module."""
    return ".".join(test.id().split(".")[-2:])


def flatten(suite: unittest.TestSuite | unittest.TestCase) -> Iterator[unittest.TestCase]:
    """Yield the tests of nested suites in their order."""
    if isinstance(suite, unittest.TestCase):
        yield suite
        return
    for member in suite:
        yield from flatten(member)


def select_tests(module: str, only: Iterable[str], skip: Iterable[str]) -> unittest.TestSuite:
    """Load the module's tests without those to be skipped."""
    only, skip = set(only), set(skip)
    found = list(flatten(unittest.defaultTestLoader.loadTestsFromName(module)))
    unknown = (only | skip) - {identify(test) for test in found}
    if unknown:
        raise LookupError(f"`{module}` has no test {sorted(unknown)}")
    return unittest.TestSuite(
        test
        for test in found
        if identify(test) not in skip and (not only or identify(test) in only)
    )


def main() -> int:
    """Run one module; 0 means that it ran to its end, whatever the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=("asyncio", "rsgi"), required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--seconds-per-test", type=float, default=30.0)
    parser.add_argument("--skip", action="append", default=[])
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("module")
    options = parser.parse_args()

    faulthandler.enable()
    support: Any = importlib.import_module("test.support")
    support.use_resources = list(RESOURCES)
    census = install(options.loop)
    suite = select_tests(options.module, options.only, options.skip)
    with open(options.output, "w", encoding="utf-8") as output:
        recorder = Recorder(output, options.seconds_per_test, support)
        sys.unraisablehook = recorder.note_unraisable
        suite.run(recorder)
        recorder.write(
            ended=True,
            loops=census.ours,
            other_loops=census.others,
            turns=census.turns,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
