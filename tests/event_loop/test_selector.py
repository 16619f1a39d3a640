"""The selector behind the loop, compared with `selectors.EpollSelector` call by call."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import selectors
import socket
import time
import weakref
from collections.abc import Mapping
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import LoopFactory

    Pair = tuple[socket.socket, socket.socket]

BOTH = EVENT_READ | EVENT_WRITE


@pytest.fixture
def selector(loop: asyncio.SelectorEventLoop) -> Iterator[selectors.BaseSelector]:
    """Yield the selector of a loop, without the registration of the loop's own pipe."""
    selector: selectors.BaseSelector = loop._selector  # type: ignore[attr-defined]
    pipe = selector.unregister(loop._ssock)  # type: ignore[attr-defined]
    yield selector
    if not loop.is_closed():
        for key in list((selector.get_map() or {}).values()):
            selector.unregister(key.fileobj)
        selector.register(pipe.fileobj, pipe.events, pipe.data)


def ready(selector: selectors.BaseSelector, timeout: float | None = 0) -> dict[int, int]:
    """Return number and events of what is ready."""
    return {key.fd: events for key, events in selector.select(timeout)}


def test_register_returns_the_key_that_get_key_and_the_map_return(
    selector: selectors.BaseSelector, pair: Pair
) -> None:
    left, _ = pair
    data = object()
    key = selector.register(left, EVENT_READ, data)
    assert isinstance(key, selectors.SelectorKey)
    assert key == selectors.SelectorKey(left, left.fileno(), EVENT_READ, data)
    assert key.fileobj is left
    assert key.data is data
    assert selector.get_key(left) == key
    assert selector.get_key(left.fileno()) == key
    assert selector.get_map()[left] == key
    assert selector.get_map()[left.fileno()] == key
    assert selector.get_map().get(left.fileno()) == key


def test_a_number_and_its_file_are_the_same_registration(
    selector: selectors.BaseSelector, pair: Pair
) -> None:
    left, _ = pair
    selector.register(left.fileno(), EVENT_READ)
    with pytest.raises(KeyError, match="already registered"):
        selector.register(left, EVENT_READ)
    assert selector.unregister(left).fd == left.fileno()
    with pytest.raises(KeyError, match="not registered"):
        selector.unregister(left.fileno())


@pytest.mark.parametrize("events", [0, 4, 7, -1, BOTH + 64])
def test_invalid_events_are_a_value_error(
    selector: selectors.BaseSelector, pair: Pair, events: int
) -> None:
    left, _ = pair
    with pytest.raises(ValueError, match="Invalid events"):
        selector.register(left, events)
    assert len(selector.get_map()) == 0


@pytest.mark.parametrize("fileobj", [-1, "file", None, object(), 1.5])
def test_what_is_no_file_is_a_value_error(
    selector: selectors.BaseSelector, fileobj: object
) -> None:
    with pytest.raises(ValueError, match=r"(?i)invalid file"):
        selector.register(fileobj, EVENT_READ)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"(?i)invalid file"):
        selector.unregister(fileobj)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"(?i)invalid file"):
        selector.modify(fileobj, EVENT_READ)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"(?i)invalid file"):
        selector.get_map().get(fileobj)  # type: ignore[call-overload]


def test_what_is_not_registered_is_a_key_error(
    selector: selectors.BaseSelector, pair: Pair
) -> None:
    left, _ = pair
    with pytest.raises(KeyError, match="not registered"):
        selector.unregister(left)
    with pytest.raises(KeyError, match="not registered"):
        selector.modify(left, EVENT_READ)
    with pytest.raises(KeyError, match="not registered"):
        selector.get_key(left)
    with pytest.raises(KeyError):
        selector.get_map()[left]
    assert selector.get_map().get(left) is None
    assert left not in selector.get_map()


def test_a_refused_registration_leaves_nothing_behind(
    selector: selectors.BaseSelector, tmp_path: os.PathLike[str]
) -> None:
    with open(os.path.join(tmp_path, "file"), "w") as file:
        with pytest.raises(PermissionError):
            selector.register(file, EVENT_READ)
        assert file not in selector.get_map()
        number = file.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        selector.register(number, EVENT_READ)
    assert len(selector.get_map()) == 0


def test_a_file_that_was_closed_is_unregistered_by_itself_and_by_its_number(
    selector: selectors.BaseSelector,
) -> None:
    left, right = socket.socketpair()
    key_left = selector.register(left, EVENT_READ)
    key_right = selector.register(right, BOTH)
    left.close()
    right.close()
    assert selector.unregister(left) == key_left
    assert selector.unregister(key_right.fd) == key_right
    assert ready(selector) == {}


def test_modify_changes_the_events(selector: selectors.BaseSelector, pair: Pair) -> None:
    left, right = pair
    right.send(b"x")
    number = left.fileno()
    selector.register(left, EVENT_READ, "data")
    assert ready(selector) == {number: EVENT_READ}
    assert selector.modify(left, EVENT_WRITE, "data").events == EVENT_WRITE
    assert ready(selector) == {number: EVENT_WRITE}
    selector.modify(left, BOTH, "data")
    assert ready(selector) == {number: BOTH}
    left.recv(10)
    assert ready(selector) == {number: EVENT_WRITE}
    selector.modify(left, EVENT_READ, "data")
    assert ready(selector) == {}


def test_modify_changes_the_data_alone(selector: selectors.BaseSelector, pair: Pair) -> None:
    left, right = pair
    right.send(b"x")
    selector.register(left, EVENT_READ, "old")
    key = selector.modify(left, EVENT_READ, "new")
    assert key == selectors.SelectorKey(left, left.fileno(), EVENT_READ, "new")
    assert selector.get_key(left) == key
    assert [key.data for key, _ in selector.select(0)] == ["new"]


def test_modify_without_data_sets_it_to_none(selector: selectors.BaseSelector, pair: Pair) -> None:
    left, _ = pair
    selector.register(left, EVENT_READ, "old")
    assert selector.modify(left, EVENT_READ).data is None


def test_select_is_level_triggered(selector: selectors.BaseSelector, pair: Pair) -> None:
    left, right = pair
    selector.register(left, EVENT_READ)
    assert ready(selector) == {}
    right.send(b"ab")
    for timeout in (0, 0, -1, 5, None, 0.001, 0):
        assert ready(selector, timeout) == {left.fileno(): EVENT_READ}
    left.recv(1)
    assert ready(selector, 5) == {left.fileno(): EVENT_READ}
    left.recv(1)
    assert ready(selector) == {}
    right.send(b"c")
    assert ready(selector, 5) == {left.fileno(): EVENT_READ}


def test_select_sees_a_partly_read_socket_after_unregister_and_register(
    selector: selectors.BaseSelector, pair: Pair
) -> None:
    left, right = pair
    right.send(b"abc")
    for _ in range(3):
        selector.register(left, EVENT_READ)
        assert ready(selector, 5) == {left.fileno(): EVENT_READ}
        left.recv(1)
        selector.unregister(left)
    selector.register(left, EVENT_READ)
    assert ready(selector) == {}


def test_select_reports_every_ready_file(selector: selectors.BaseSelector) -> None:
    pairs = [socket.socketpair() for _ in range(300)]
    for left, right in pairs:
        selector.register(left, EVENT_READ)
        right.send(b"x")
    expected = {left.fileno() for left, _ in pairs}
    seen: set[int] = set()
    deadline = time.monotonic() + 5
    while seen != expected and time.monotonic() < deadline:
        seen |= set(ready(selector, 0.1))
    assert seen == expected
    # The level-triggered state of all of them, in one call.
    assert set(ready(selector)) == expected
    for left, right in pairs:
        selector.unregister(left)
        left.close()
        right.close()


def test_select_reports_a_hang_up_as_what_was_asked_for(
    selector: selectors.BaseSelector, pair: Pair
) -> None:
    left, right = pair
    right.close()
    selector.register(left, EVENT_READ)
    assert ready(selector, 1) == {left.fileno(): EVENT_READ}
    selector.modify(left, EVENT_WRITE)
    assert ready(selector, 1) == {left.fileno(): EVENT_WRITE}
    selector.modify(left, BOTH)
    assert ready(selector, 1) == {left.fileno(): BOTH}


@pytest.mark.parametrize("timeout", [0.0, -1.0, 0.001, 0.0101, 0.05])
def test_select_waits_at_least_its_timeout(
    selector: selectors.BaseSelector, timeout: float
) -> None:
    start = time.monotonic()
    assert selector.select(timeout) == []
    taken = time.monotonic() - start
    assert timeout <= taken < max(timeout, 0) + 0.05


def test_select_without_files_returns_at_its_timeout(selector: selectors.BaseSelector) -> None:
    assert len(selector.get_map()) == 0
    assert selector.select(0.01) == []


def test_the_map_is_live_and_always_the_same_object(
    selector: selectors.BaseSelector, pair: Pair
) -> None:
    left, right = pair
    view = selector.get_map()
    assert view is selector.get_map()
    assert isinstance(view, Mapping)
    assert len(view) == 0
    key = selector.register(left, EVENT_READ, "left")
    assert len(view) == 1
    assert left in view
    assert list(view) == [left.fileno()]
    assert list(view.values()) == [key]
    assert dict(view.items()) == {left.fileno(): key}
    selector.register(right, BOTH, "right")
    assert set(view) == {left.fileno(), right.fileno()}
    changed = selector.modify(left, BOTH, "changed")
    assert view[left] == changed
    selector.unregister(left)
    assert view.get(left) is None
    assert view.get(left.fileno(), "default") == "default"
    assert list(view) == [right.fileno()]
    assert selector.get_map() is view


def test_a_look_into_the_map_does_not_depend_on_its_size(
    selector: selectors.BaseSelector,
) -> None:
    """asyncio 3.12+ looks for every reader it adds or removes."""

    def seconds(number: int) -> float:
        best = 1.0
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(2000):
                selector.get_map().get(number)
            best = min(best, time.perf_counter() - start)
        return best

    pairs = [socket.socketpair() for _ in range(1000)]
    number = pairs[0][0].fileno()
    selector.register(number, EVENT_READ)
    few = seconds(number)
    for left, right in pairs[1:]:
        selector.register(left, EVENT_READ)
        selector.register(right, EVENT_READ)
    many = seconds(number)
    for key in list(selector.get_map().values()):
        selector.unregister(key.fd)
    for left, right in pairs:
        left.close()
        right.close()
    # Built per call, 2000 entries would cost more than a hundred times as much.
    assert many < 10 * few


def test_a_key_keeps_its_data_alive_until_it_is_unregistered(
    selector: selectors.BaseSelector, pair: Pair
) -> None:
    class Data:
        pass

    left, right = pair
    data = Data()
    reference = weakref.ref(data)
    selector.register(left, EVENT_READ, data)
    right.send(b"x")
    selector.select(1)
    del data
    gc.collect()
    assert reference() is not None
    selector.modify(left, EVENT_READ, None)
    selector.select(0)
    gc.collect()
    assert reference() is None


def test_closing_the_loop_closes_the_selector(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    selector = loop._selector  # type: ignore[attr-defined]
    loop.close()
    assert loop._selector is None  # type: ignore[attr-defined]
    assert selector.get_map() is None
    with pytest.raises(RuntimeError, match="closed"):
        selector.get_key(0)


def test_a_closed_selector_refuses_registrations(loop_factory: LoopFactory, pair: Pair) -> None:
    loop = loop_factory()
    selector = loop._selector  # type: ignore[attr-defined]
    loop.close()
    with pytest.raises((ValueError, RuntimeError)):
        selector.register(pair[0], EVENT_READ)
    with pytest.raises((ValueError, RuntimeError)):
        selector.select(0)
    selector.close()


def test_a_loop_gives_its_files_back(loop_factory: LoopFactory) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    loop_factory().close()  # whatever is opened once for the process
    before = open_files()
    for _ in range(20):
        loop = loop_factory()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert open_files() == before


def test_a_loop_leaves_no_thread_behind(loop_factory: LoopFactory) -> None:
    before = len(os.listdir("/proc/self/task"))
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0.001))
    assert len(os.listdir("/proc/self/task")) == before
    loop.close()


def test_the_files_of_a_loop_are_not_inherited(loop_factory: LoopFactory) -> None:
    def inheritable() -> set[int]:
        found = set()
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the listing's own is closed by now
                if os.get_inheritable(int(name)):
                    found.add(int(name))
        return found

    before = inheritable()
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0))
    after = inheritable()
    loop.close()
    assert after == before
