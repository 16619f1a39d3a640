"""Who gets a turn, and when: with numbers.

The limits are wide, because the machine may be busy, but each is far below what a loop shows that
gets it wrong (a starved timer comes after the load has ended, a spinning loop uses a full second).
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    Loop = asyncio.SelectorEventLoop
    Pair = tuple[socket.socket, socket.socket]

LOAD_SECONDS = 1.0


def always_ready(loop: Loop, sockets: int) -> tuple[list[socket.socket], list[int]]:
    """Register readers that never drain their socket, and count their calls."""
    calls = [0] * sockets
    opened: list[socket.socket] = []

    def readable(number: int) -> None:
        calls[number] += 1

    for number in range(sockets):
        left, right = socket.socketpair()
        right.send(b"x")
        loop.add_reader(left, readable, number)
        opened += [left, right]
    return opened, calls


def finish(loop: Loop, opened: list[socket.socket]) -> None:
    """Take the load away."""
    for sock in opened:
        loop.remove_reader(sock)
        sock.close()


def test_timers_keep_their_turn_under_constant_socket_load(loop: Loop) -> None:
    opened, calls = always_ready(loop, 100)
    interval = 0.01
    late: list[float] = []

    def tick(due: float) -> None:
        now = loop.time()
        late.append(now - due)
        loop.call_at(now + interval, tick, now + interval)

    loop.call_at(loop.time() + interval, tick, loop.time() + interval)
    loop.call_later(LOAD_SECONDS, loop.stop)
    loop.run_forever()
    finish(loop, opened)
    assert sum(calls) > 1000
    assert len(late) > LOAD_SECONDS / interval / 4
    assert statistics.median(late) < 0.01


def test_ready_callbacks_keep_their_turn_under_constant_socket_load(loop: Loop) -> None:
    opened, calls = always_ready(loop, 100)
    turns = 0

    def again() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(again)

    loop.call_soon(again)
    loop.call_later(LOAD_SECONDS, loop.stop)
    loop.run_forever()
    finish(loop, opened)
    # One turn of the callback for about one round through the sockets.
    assert turns > 100
    assert turns > sum(calls) / len(calls) / 10


def test_every_socket_gets_its_turn(loop: Loop) -> None:
    opened, calls = always_ready(loop, 100)
    loop.call_later(LOAD_SECONDS, loop.stop)
    loop.run_forever()
    finish(loop, opened)
    assert min(calls) > 10
    assert min(calls) > max(calls) / 2


def test_sockets_keep_their_turn_when_callbacks_never_end(loop: Loop, pair: Pair) -> None:
    left, right = pair
    answered = 0
    turns = 0

    def readable() -> None:
        nonlocal answered
        left.recv(1)
        answered += 1
        right.send(b"x")

    def again() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(again)

    loop.add_reader(left, readable)
    right.send(b"x")
    loop.call_soon(again)
    loop.call_later(LOAD_SECONDS, loop.stop)
    loop.run_forever()
    loop.remove_reader(left)
    assert turns > 100
    # A ready socket is noticed within a few turns; tokio may need more than one for it.
    assert answered > turns / 10


def test_a_socket_is_noticed_within_milliseconds_when_callbacks_never_end(
    loop: Loop, pair: Pair
) -> None:
    left, right = pair
    latencies: list[float] = []
    sent = 0.0

    def again() -> None:
        loop.call_soon(again)

    def send() -> None:
        nonlocal sent
        sent = time.perf_counter()
        right.send(b"x")

    def readable() -> None:
        left.recv(1)
        latencies.append(time.perf_counter() - sent)
        if len(latencies) == 100:
            loop.stop()
        else:
            loop.call_later(0.001, send)

    loop.add_reader(left, readable)
    loop.call_soon(again)
    loop.call_soon(send)
    loop.run_forever()
    loop.remove_reader(left)
    assert statistics.median(latencies) < 0.002


def test_timers_keep_their_turn_when_callbacks_never_end(loop: Loop) -> None:
    def again() -> None:
        loop.call_soon(again)

    late: list[float] = []
    start = loop.time()

    def fired(due: float) -> None:
        late.append(loop.time() - due)

    for number in range(1, 51):
        due = start + number / 100
        loop.call_at(due, fired, due)
    loop.call_soon(again)
    loop.call_at(start + 0.6, loop.stop)
    loop.run_forever()
    assert len(late) == 50
    assert statistics.median(late) < 0.005


def test_other_threads_keep_their_turn_when_the_loop_never_sleeps(loop: Loop) -> None:
    """A loop that never sleeps gives Python up only at the interpreter's switch interval."""
    opened, _ = always_ready(loop, 10)
    finished: list[float] = []

    def work() -> int:
        return sum(range(1000))

    async def measure() -> None:
        while True:
            start = time.perf_counter()
            await loop.run_in_executor(None, work)
            finished.append(time.perf_counter() - start)

    task = loop.create_task(measure())
    loop.call_later(LOAD_SECONDS, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    finish(loop, opened)
    assert len(finished) > 5
    assert statistics.median(finished) < 0.1


@pytest.mark.parametrize("kind_of_sleep", ["timer", "long timer", "nothing"])
def test_an_idle_loop_uses_no_cpu(loop: Loop, pair: Pair, kind_of_sleep: str) -> None:
    left, right = pair
    loop.add_reader(left, loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    waker: threading.Timer | None = None
    if kind_of_sleep == "timer":
        loop.call_later(1, loop.stop)
    else:
        waker = threading.Timer(1, right.send, [b"x"])
        waker.start()
    long = loop.call_later(10.0**7, print) if kind_of_sleep == "long timer" else None
    used, start = time.process_time(), time.monotonic()
    loop.run_forever()
    used, taken = time.process_time() - used, time.monotonic() - start
    if waker is not None:
        waker.join()
    if long is not None:
        long.cancel()
    loop.remove_reader(left)
    assert taken >= 0.99
    assert used < 0.02


def test_an_idle_loop_with_a_ready_but_unwatched_direction_uses_no_cpu(
    loop: Loop, pair: Pair
) -> None:
    """The socket is writable all the time, and only reading is asked for."""
    left, _ = pair
    loop.add_reader(left, pytest.fail, "nothing was sent")
    loop.call_later(1, loop.stop)
    used = time.process_time()
    loop.run_forever()
    used = time.process_time() - used
    loop.remove_reader(left)
    assert used < 0.02


def test_an_idle_loop_with_data_for_a_removed_reader_uses_no_cpu(loop: Loop, pair: Pair) -> None:
    left, right = pair
    loop.add_reader(left, loop.stop)
    right.send(b"x")
    loop.run_forever()
    loop.remove_reader(left)
    loop.call_later(1, loop.stop)
    used = time.process_time()
    loop.run_forever()
    assert time.process_time() - used < 0.02


def test_a_timer_wakes_a_sleeping_loop_on_time(loop: Loop) -> None:
    late: list[float] = []
    for _ in range(30):
        due = loop.time() + 0.005
        loop.call_at(due, loop.stop)
        loop.run_forever()
        late.append(loop.time() - due)
    assert statistics.median(late) < 0.005


def test_a_socket_wakes_a_sleeping_loop_at_once(loop: Loop) -> None:
    """Ping-pong with a thread that answers through a blocking socket."""
    left, right = socket.socketpair()
    left.setblocking(False)

    def answer() -> None:
        while data := right.recv(1):
            right.send(data)

    thread = threading.Thread(target=answer)
    thread.start()
    times: list[float] = []

    async def main() -> None:
        for _ in range(200):
            start = time.perf_counter()
            await loop.sock_sendall(left, b"x")
            await loop.sock_recv(left, 1)
            times.append(time.perf_counter() - start)

    loop.run_until_complete(main())
    left.shutdown(socket.SHUT_RDWR)
    thread.join()
    left.close()
    right.close()
    assert statistics.median(times) < 0.002


def test_a_thread_runs_while_the_loop_sleeps(loop: Loop) -> None:
    """The loop gives Python up while it sleeps, or nobody else could run at all."""
    reader, writer = os.pipe()
    steps = 0

    def work() -> None:
        nonlocal steps
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            steps += 1
        os.write(writer, b"x")

    loop.add_reader(reader, loop.stop)
    thread = threading.Thread(target=work)
    thread.start()
    loop.run_forever()
    thread.join()
    loop.remove_reader(reader)
    os.close(reader)
    os.close(writer)
    assert steps > 10_000
