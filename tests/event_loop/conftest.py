"""The two loops every test here runs on, and the means to run a program on either.

``asyncio`` is the reference: a test that fails there is wrong. With ``RSGI_REFERENCE_ONLY=1`` only
the reference runs; without it, an ``rsgi`` that cannot be imported is an error, never a skip.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .programs import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    LoopFactory = Callable[[], asyncio.SelectorEventLoop]

HERE = Path(__file__).parent
REFERENCE_ONLY = os.environ.get("RSGI_REFERENCE_ONLY") == "1"
KINDS = ["asyncio"] if REFERENCE_ONLY else ["asyncio", "rsgi"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """End the whole run when a test here hangs.

    The usual way, an exception from a signal handler, is not enough: a loop reports an exception
    that is raised in one of its callbacks, and goes on.
    """
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(method="thread"))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return the name of the loop under test."""
    name: str = request.param
    return name


@pytest.fixture
def loop_factory(kind: str) -> LoopFactory:
    """Return what makes the loop under test."""
    if kind == "asyncio":
        return asyncio.SelectorEventLoop
    factory: LoopFactory = importlib.import_module("rsgi").new_event_loop
    return factory


@pytest.fixture
def loop(loop_factory: LoopFactory) -> Iterator[asyncio.SelectorEventLoop]:
    """Yield a loop that is closed afterwards, and collect what the test left behind."""
    loop = loop_factory()
    yield loop
    if not loop.is_closed():
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    gc.collect()


@pytest.fixture
def program(kind: str) -> Program:
    """Return what runs a program in a process of its own."""
    return Program(kind)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield two connected non-blocking sockets."""
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right
