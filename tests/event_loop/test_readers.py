"""Readers and writers: level-triggered, under `modify`, re-entrant, and with re-used numbers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest

from .programs import run_within

if TYPE_CHECKING:
    from collections.abc import Callable

    Loop = asyncio.SelectorEventLoop
    Pair = tuple[socket.socket, socket.socket]


def run_for(loop: Loop, seconds: float) -> None:
    """Run the loop for a while, for tests that something does *not* happen."""
    loop.call_later(seconds, loop.stop)
    loop.run_forever()


def run_until(loop: Loop, condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Run the loop until `condition` holds, and fail at the deadline."""
    deadline = loop.time() + seconds

    def look() -> None:
        if condition() or loop.time() > deadline:
            loop.stop()
        else:
            loop.call_later(0.001, look)

    loop.call_soon(look)
    loop.run_forever()
    assert condition()


def fill(sock: socket.socket) -> int:
    """Write until the socket takes no more."""
    total = 0
    while True:
        try:
            total += sock.send(bytes(65536))
        except BlockingIOError:
            return total


def drain(sock: socket.socket) -> int:
    """Read until there is nothing left."""
    total = 0
    while True:
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return total
        if not data:
            return total
        total += len(data)


def test_a_reader_that_leaves_data_is_called_again(loop: Loop, pair: Pair) -> None:
    left, right = pair
    seen: list[bytes] = []
    loop.add_reader(left, lambda: seen.append(left.recv(1)))
    right.send(b"abcdef")
    run_until(loop, lambda: len(seen) == 6)
    run_for(loop, 0.02)
    loop.remove_reader(left)
    assert b"".join(seen) == b"abcdef"


def test_a_reader_that_reads_nothing_is_called_every_turn(loop: Loop, pair: Pair) -> None:
    left, right = pair
    calls: list[None] = []
    loop.add_reader(left, calls.append, None)
    right.send(b"x")
    run_until(loop, lambda: len(calls) >= 100)
    left.recv(1)
    run_for(loop, 0.005)  # A call may be in flight.
    before = len(calls)
    run_for(loop, 0.02)
    assert len(calls) == before
    loop.remove_reader(left)


def test_a_writer_is_called_every_turn_while_there_is_room(loop: Loop, pair: Pair) -> None:
    left, right = pair
    calls: list[None] = []
    loop.add_writer(left, calls.append, None)
    run_until(loop, lambda: len(calls) >= 100)
    fill(left)
    run_for(loop, 0.005)
    before = len(calls)
    run_for(loop, 0.02)
    assert len(calls) == before
    drain(right)
    run_until(loop, lambda: len(calls) > before)
    loop.remove_writer(left)


def test_data_that_came_before_the_registration_is_reported(loop: Loop, pair: Pair) -> None:
    left, right = pair
    right.send(b"x")
    loop.add_reader(left, loop.stop)
    loop.run_forever()
    loop.remove_reader(left)
    # Again, after a full round through the loop with the same data still there.
    loop.add_reader(left, loop.stop)
    loop.run_forever()
    assert loop.remove_reader(left)


def test_a_replaced_reader_is_not_called(loop: Loop, pair: Pair) -> None:
    left, right = pair
    seen: list[str] = []
    loop.add_reader(left, seen.append, "old")
    loop.add_reader(left, seen.append, "new")
    right.send(b"x")
    run_until(loop, lambda: bool(seen))
    loop.remove_reader(left)
    assert set(seen) == {"new"}


def test_removing_tells_whether_there_was_something(loop: Loop, pair: Pair) -> None:
    left, _ = pair
    assert loop.remove_reader(left) is False
    assert loop.remove_writer(left) is False
    loop.add_reader(left, print)
    assert loop.remove_writer(left) is False
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False


def test_a_removed_reader_is_not_called_even_when_ready(loop: Loop, pair: Pair) -> None:
    left, right = pair
    right.send(b"x")
    loop.add_reader(left, pytest.fail, "removed")
    loop.remove_reader(left)
    run_for(loop, 0.01)


def test_a_reader_removed_by_an_earlier_callback_of_its_turn_is_not_called(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    seen: list[int] = []

    def readable(number: int) -> None:
        seen.append(number)
        for left, _ in pairs:
            loop.remove_reader(left)

    for number, (left, right) in enumerate(pairs):
        loop.add_reader(left, readable, number)
        right.send(b"x")
    run_for(loop, 0.02)
    assert len(seen) == 1
    for both in pairs:
        for sock in both:
            sock.close()


def test_reader_and_writer_of_one_socket_are_independent(loop: Loop, pair: Pair) -> None:
    left, right = pair
    seen: list[str] = []
    loop.add_reader(left, seen.append, "read")
    loop.add_writer(left, seen.append, "write")
    run_until(loop, lambda: len(seen) > 3)
    assert set(seen) == {"write"}
    loop.remove_writer(left)
    run_for(loop, 0.005)
    seen.clear()
    right.send(b"x")
    run_until(loop, lambda: len(seen) > 3)
    assert set(seen) == {"read"}
    loop.add_writer(left, seen.append, "write")
    run_until(loop, lambda: set(seen) == {"read", "write"})
    loop.remove_reader(left)
    run_for(loop, 0.005)
    seen.clear()
    run_until(loop, lambda: len(seen) > 3)
    assert set(seen) == {"write"}
    loop.remove_writer(left)


def test_switching_a_writer_on_and_off_each_turn_loses_no_read(loop: Loop, pair: Pair) -> None:
    """asyncio's transports do this whenever they start and stop writing."""
    left, right = pair
    read = 0
    toggles = 0

    def readable() -> None:
        nonlocal read
        read += len(left.recv(1))

    def writable() -> None:
        nonlocal toggles
        toggles += 1
        loop.remove_writer(left)
        right.send(b"x")
        if toggles < 500:
            loop.call_soon(loop.add_writer, left, writable)

    loop.add_reader(left, readable)
    loop.add_writer(left, writable)
    run_until(loop, lambda: read == 500)
    loop.remove_reader(left)


def test_unregistering_and_registering_in_one_turn_keeps_the_edge(loop: Loop, pair: Pair) -> None:
    left, right = pair
    seen: list[int] = []

    def readable(generation: int) -> None:
        seen.append(generation)
        loop.remove_reader(left)
        if generation < 200:  # the byte is still there: each registration must see it
            loop.add_reader(left, readable, generation + 1)

    loop.add_reader(left, readable, 0)
    right.send(b"x")
    run_until(loop, lambda: len(seen) == 201)
    assert seen == list(range(201))


def test_a_reader_added_inside_a_reader_is_served(loop: Loop) -> None:
    """select() is on the stack of the first registration when the next is made."""
    pairs = [socket.socketpair() for _ in range(50)]
    seen: list[int] = []

    def readable(number: int) -> None:
        seen.append(number)
        loop.remove_reader(pairs[number][0])
        if number + 1 < len(pairs):
            loop.add_reader(pairs[number + 1][0], readable, number + 1)
            pairs[number + 1][1].send(b"x")

    loop.add_reader(pairs[0][0], readable, 0)
    pairs[0][1].send(b"x")
    run_until(loop, lambda: len(seen) == len(pairs))
    for both in pairs:
        for sock in both:
            sock.close()


def test_a_reader_may_close_its_own_socket(loop: Loop) -> None:
    left, right = socket.socketpair()
    closed: list[bool] = []

    def readable() -> None:
        loop.remove_reader(left)
        left.close()
        closed.append(True)

    loop.add_reader(left, readable)
    right.close()
    run_until(loop, lambda: bool(closed))
    run_for(loop, 0.01)


def test_a_number_used_again_in_the_same_turn_belongs_to_the_new_socket(loop: Loop) -> None:
    """For each round the number of the closed socket goes to another one at once."""
    seen: list[int] = []
    left, right = socket.socketpair()
    number = left.fileno()
    for turn in range(200):
        loop.add_reader(number, pytest.fail, "the old socket")
        run_for(loop, 0)
        right.send(b"x")  # an event that is under way when the socket goes
        loop.remove_reader(number)
        new_left, new_right = socket.socketpair()
        os.dup2(new_left.fileno(), number)
        right.close()
        new_left.close()
        right = new_right
        loop.add_reader(number, seen.append, turn)
        right.send(b"y")
        run_until(loop, lambda expected=turn: expected in seen)  # type: ignore[misc]
        loop.remove_reader(number)
        assert os.read(number, 10) == b"y"
    left.close()
    right.close()


def test_a_number_closed_without_removal_and_used_again_does_not_confuse_the_two(
    loop: Loop,
) -> None:
    """asyncio itself leaves this to the caller; the new registration has to work."""
    first_left, first_right = socket.socketpair()
    number = first_left.fileno()
    loop.add_reader(number, pytest.fail, "the old socket")
    run_for(loop, 0)
    first_left.close()  # the registration of `number` stays
    loop.remove_reader(number)
    second_left, second_right = socket.socketpair()
    assert second_left.fileno() == number
    seen: list[bytes] = []
    second_left.setblocking(False)
    loop.add_reader(second_left, lambda: seen.append(second_left.recv(10)))
    run_for(loop, 0)
    first_right.close()
    second_right.send(b"new")
    run_until(loop, lambda: seen == [b"new"])
    loop.remove_reader(second_left)
    second_left.close()
    second_right.close()


def test_a_duplicate_that_stays_open_does_not_report_for_the_removed_number(loop: Loop) -> None:
    """epoll keeps a registration as long as any duplicate of the file is open."""
    left, right = socket.socketpair()
    loop.add_reader(left, pytest.fail, "removed")
    keeper = left.dup()
    loop.remove_reader(left)
    left.close()
    right.send(b"x")
    run_for(loop, 0.02)
    keeper.close()
    right.close()


def test_the_end_of_the_stream_is_readable(loop: Loop, pair: Pair) -> None:
    left, right = pair
    right.close()
    calls: list[bytes] = []
    loop.add_reader(left, lambda: calls.append(left.recv(10)))
    run_until(loop, lambda: len(calls) >= 3)
    loop.remove_reader(left)
    assert set(calls) == {b""}


def test_a_half_closed_stream_stays_readable_and_writable(loop: Loop, pair: Pair) -> None:
    left, right = pair
    right.shutdown(socket.SHUT_WR)
    seen: set[str] = set()
    loop.add_reader(left, seen.add, "read")
    loop.add_writer(left, seen.add, "write")
    run_until(loop, lambda: seen == {"read", "write"})
    loop.remove_reader(left)
    loop.remove_writer(left)


def test_a_pipe_whose_reader_is_gone_wakes_its_writer(loop: Loop) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(65536))
    calls: list[None] = []
    loop.add_writer(writer, calls.append, None)
    run_for(loop, 0.01)
    assert calls == []
    os.close(reader)
    run_until(loop, lambda: bool(calls))
    loop.remove_writer(writer)
    os.close(writer)


def test_a_pipe_whose_reader_is_gone_wakes_a_reader_registration_of_the_writing_end(
    loop: Loop,
) -> None:
    """asyncio's write-pipe transport watches its own end for reading to notice the hang-up."""
    reader, writer = os.pipe()
    calls: list[None] = []
    loop.add_reader(writer, calls.append, None)
    run_for(loop, 0.01)
    assert calls == []
    os.close(reader)
    run_until(loop, lambda: bool(calls))
    loop.remove_reader(writer)
    os.close(writer)


def test_a_refused_connection_wakes_its_writer(loop: Loop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = taken.getsockname()

    async def main() -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(sock, address)

    run_within(loop, main)


def test_a_regular_file_is_refused(loop: Loop) -> None:
    with open(__file__, "rb") as file:
        with pytest.raises(PermissionError):
            loop.add_reader(file, print)
        assert loop.remove_reader(file) is False


def test_a_closed_number_is_refused(loop: Loop) -> None:
    left, right = socket.socketpair()
    number = left.fileno()
    left.close()
    right.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(number, print)
    assert loop.remove_reader(number) is False


@pytest.mark.parametrize("fd", [-1, "3", None, 1.5])
def test_what_is_no_file_is_refused(loop: Loop, fd: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        loop.add_reader(fd, print)  # type: ignore[arg-type]
