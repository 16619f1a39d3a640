"""Subprocesses, forks, the interpreter's end, and ten thousand files."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from .programs import run_within

if TYPE_CHECKING:
    from .conftest import LoopFactory
    from .programs import Program

    Loop = asyncio.SelectorEventLoop


def test_a_subprocess_answers_and_ends(loop: Loop) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(7)",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate(b"hello")
        assert output == b"HELLO"
        assert process.returncode == 7

    run_within(loop, main)


def test_many_subprocesses_run_at_the_same_time(loop: Loop) -> None:
    async def one(number: int) -> None:
        process = await asyncio.create_subprocess_shell(
            f"cat; exit {number}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        data = bytes([65 + number]) * 100_000
        output, _ = await process.communicate(data)
        assert output == data
        assert process.returncode == number

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(20)))

    run_within(loop, main, 40)


def test_a_subprocess_is_killed(loop: Loop) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "3600")
        process.kill()
        assert await process.wait() == -signal.SIGKILL

    run_within(loop, main)


def test_a_subprocess_that_cannot_start_is_an_error(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/nonexistent/program")

    run_within(loop, main)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_subprocess_in_a_loop_of_another_thread(loop: Loop, loop_factory: LoopFactory) -> None:
    """The watcher of children has to work without the main thread."""

    def work() -> bytes:
        async def inner() -> bytes:
            process = await asyncio.create_subprocess_exec(
                "echo", "hello", stdout=asyncio.subprocess.PIPE
            )
            output, _ = await process.communicate()
            return output

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(inner())

    async def main() -> None:
        assert await loop.run_in_executor(None, work) == b"hello\n"

    run_within(loop, main)


def test_a_child_forked_in_a_callback_ends_and_the_parent_goes_on(program: Program) -> None:
    source = """
    import os, socket
    left, right = socket.socketpair()
    left.setblocking(False)
    loop = new_event_loop()
    def forked():
        pid = os.fork()
        if pid == 0:
            os._exit(3)
        _, status = os.waitpid(pid, 0)
        say("child", os.waitstatus_to_exitcode(status))
        right.send(b"x")
    def readable():
        say("parent", left.recv(10).decode())
        loop.remove_reader(left)
        loop.stop()
    loop.add_reader(left, readable)
    loop.call_soon(forked)
    loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    left.close()
    right.close()
    """
    assert program.run(source) == ["child", "3", "parent", "x"]


def test_a_child_forked_in_a_callback_runs_a_loop_of_its_own(program: Program) -> None:
    """What multiprocessing's fork method does; the parent's registrations must not suffer."""
    source = """
    import os, socket
    left, right = socket.socketpair()
    left.setblocking(False)
    loop = new_event_loop()
    async def child():
        await asyncio.sleep(0.01)
        a, b = socket.socketpair()
        a.setblocking(False); b.setblocking(False)
        inner = asyncio.get_running_loop()
        await inner.sock_sendall(a, b"hello")
        assert await inner.sock_recv(b, 10) == b"hello"
        a.close(); b.close()
    def forked():
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.events._set_running_loop(None)
                with asyncio.Runner(loop_factory=new_event_loop) as runner:
                    runner.run(child())
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        say("child", os.waitstatus_to_exitcode(status))
        right.send(b"x")
    def readable():
        say("parent", left.recv(10).decode())
        loop.remove_reader(left)
        loop.stop()
    loop.add_reader(left, readable)
    loop.call_soon(forked)
    loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    left.close()
    right.close()
    """
    assert program.run(source) == ["child", "0", "parent", "x"]


def test_a_child_forked_in_a_callback_may_close_the_loop_of_its_parent(program: Program) -> None:
    """epoll is shared with the parent: the child's clean-up must not take its registrations."""
    source = """
    import gc, os, socket
    left, right = socket.socketpair()
    left.setblocking(False)
    loop = new_event_loop()
    def forked():
        pid = os.fork()
        if pid == 0:
            say("collected")
            asyncio.events._set_running_loop(None)
            gc.collect()
            os._exit(0)
        os.waitpid(pid, 0)
        right.send(b"x")
    def readable():
        say("parent", left.recv(10).decode())
        loop.stop()
    loop.add_reader(left, readable)
    loop.call_soon(forked)
    loop.run_forever()
    loop.remove_reader(left)
    loop.close()
    left.close()
    right.close()
    """
    assert program.run(source) == ["collected", "parent", "x"]


def test_a_process_pool_works_from_the_loop(program: Program) -> None:
    source = """
    import concurrent.futures, multiprocessing, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    async def main():
        loop = asyncio.get_running_loop()
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
            results = await asyncio.gather(
                *(loop.run_in_executor(pool, abs, -n) for n in range(20)))
        say(sum(results))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    """
    assert program.run(source) == ["190"]


def test_an_interpreter_that_ends_with_a_loop_still_open_ends_cleanly(program: Program) -> None:
    source = """
    import warnings
    warnings.simplefilter("ignore", ResourceWarning)
    loop = new_event_loop()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.call_later(3600, print)
    say("end")
    """
    assert program.run(source) == ["end"]


def test_a_loop_with_live_connections_can_be_closed(program: Program) -> None:
    source = """
    import gc, warnings
    warnings.simplefilter("ignore", ResourceWarning)
    loop = new_event_loop()
    writers = []
    async def main():
        server = await asyncio.start_server(lambda r, w: writers.append(w), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(20):
            writers.append((await asyncio.open_connection(*address))[1])
        async with asyncio.timeout(10):
            while len(writers) < 40:
                await asyncio.sleep(0.001)
    loop.run_until_complete(main())
    loop.close()
    for writer in writers:
        writer.get_extra_info("socket")._sock.close()
    writers.clear()
    gc.collect()
    say("closed")
    """
    assert program.run(source) == ["closed"]


def test_sys_exit_in_a_task_ends_the_program_with_its_status(program: Program) -> None:
    source = """
    async def main():
        await asyncio.sleep(0.001)
        sys.exit(5)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    """
    assert program.run(source, status=5) == []


def test_an_interpreter_ends_while_a_daemon_thread_sleeps_in_its_loop(program: Program) -> None:
    source = """
    import threading, warnings
    warnings.simplefilter("ignore")
    running = threading.Event()
    def work():
        loop = new_event_loop()
        loop.call_soon(running.set)
        loop.run_forever()
    threading.Thread(target=work, daemon=True).start()
    running.wait()
    say("end")
    """
    assert program.run(source) == ["end"]


def test_ten_thousand_files_are_watched(program: Program) -> None:
    source = """
    import os, resource, socket
    COUNT = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = COUNT + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        say("limit")
        sys.exit()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    loop = new_event_loop()
    pairs = [socket.socketpair() for _ in range(COUNT // 2)]
    socks = [sock for pair in pairs for sock in pair]
    seen = set()
    def readable(number):
        socks[number].recv(10)
        seen.add(number)
        if len(seen) == COUNT:
            loop.stop()
    for number, sock in enumerate(socks):
        sock.setblocking(False)
        loop.add_reader(sock, readable, number)
    for round in range(2):
        seen.clear()
        for sock in socks:
            sock.send(b"x")
        loop.run_forever()
        say(len(seen))
    # All writable at once, too.
    seen.clear()
    def writable(number):
        loop.remove_writer(socks[number])
        seen.add(number)
        if len(seen) == COUNT:
            loop.stop()
    for number, sock in enumerate(socks):
        loop.add_writer(sock, writable, number)
    loop.run_forever()
    say(len(seen))
    for sock in socks:
        loop.remove_reader(sock)
        sock.close()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    """
    words = program.run(source)
    if words == ["limit"]:
        pytest.skip("the hard limit of open files is too low")
    assert words == ["10000", "10000", "10000"]
