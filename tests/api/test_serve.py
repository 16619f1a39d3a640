"""`rsgi.serve()` and `Server.serve()` beside an event loop that is not rsgi's."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import rsgi
import uvloop
import websockets
from websockets.exceptions import ConnectionClosed

from tests.support.certificates import Authority
from tests.support.flavour import rsgi_only
from tests.support.waiting import DEADLINE, eventually

pytestmark = rsgi_only("is another server's API")

Loop = Callable[[], asyncio.AbstractEventLoop]

LOOPS: dict[str, Loop] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
    "rsgi": rsgi.new_event_loop,
}
OTHERS = ["asyncio", "uvloop"]

every_loop = pytest.mark.parametrize("loop", LOOPS)
every_other_loop = pytest.mark.parametrize("loop", OTHERS)


def run(loop: str, main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main)


class Beside:
    """A server as a task of the running loop, for the time of an `async with` block."""

    def __init__(self, app: Any, **settings: Any) -> None:
        """Take the server's settings."""
        settings = {"port": 0, "access_log": False, **settings}
        self.server = rsgi.Server(rsgi.Config(app, **settings))

    async def __aenter__(self) -> Beside:
        """Start it and wait until it accepts."""
        self.task = asyncio.create_task(self.server.serve())
        await until(lambda: self.server.started or self.task.done())
        assert self.server.started
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop it."""
        self.server.should_exit = True
        async with asyncio.timeout(DEADLINE):
            await self.task

    @property
    def url(self) -> str:
        return self.server.addresses[0]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - what is waited for is another library's
            await asyncio.sleep(0.005)


async def respond(send: Any, body: bytes, *, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status})
    await send({"type": "http.response.body", "body": body})


async def whoami(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the thread and the loop that this runs on, and what the client has sent."""
    assert scope["type"] == "http"
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await asyncio.sleep(0)
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    name = threading.current_thread().name
    await respond(send, f"{name} {loop} {len(body)}".encode())


@every_loop
def test_the_application_runs_on_the_loop_that_serves(loop: str) -> None:
    async def main() -> None:
        async with Beside(whoami) as beside, httpx.AsyncClient() as client:
            for size in (0, 1, 200_000):
                answer = await client.post(beside.url, content=b"x" * size)
                assert answer.text == f"MainThread {loop} {size}"

    run(loop, main())


@every_other_loop
def test_http2_tls_and_websockets_are_served(loop: str, tmp_path: Path) -> None:
    authority = Authority()
    certfile, keyfile = authority.issue("localhost").write(tmp_path)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            return await respond(send, f"{scope['http_version']} {scope['scheme']}".encode())
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"] * 2})
        return None

    async def main() -> None:
        async with Beside(app) as beside:
            async with httpx.AsyncClient(http1=False, http2=True) as client:
                answers = await asyncio.gather(*(client.get(beside.url) for _ in range(50)))
            assert {answer.text for answer in answers} == {"2 http"}
        context = authority.client()
        async with Beside(app, ssl_certfile=certfile, ssl_keyfile=keyfile) as beside:
            url = f"https://localhost:{beside.server.port}"
            async with httpx.AsyncClient(verify=context) as client:
                assert (await client.get(url)).text == "1.1 https"
            async with websockets.connect(url.replace("https", "wss"), ssl=context) as websocket:
                for number in range(100):
                    await websocket.send(str(number))
                    assert await websocket.recv() == str(number) * 2

    run(loop, main())


@every_other_loop
def test_a_stream_arrives_as_it_is_sent_and_notices_a_client_that_leaves(loop: str) -> None:
    ended = []

    async def stream(_scope: Any, receive: Any, send: Any) -> None:
        gone = asyncio.create_task(wait_for_disconnect(receive))
        await send({"type": "http.response.start", "status": 200})
        while not gone.done():
            await send({"type": "http.response.body", "body": b"tick\n", "more_body": True})
            await asyncio.sleep(0.01)
        ended.append(gone.result())

    async def wait_for_disconnect(receive: Any) -> str:
        while (message := await receive())["type"] != "http.disconnect":
            pass
        return str(message["type"])

    async def main() -> None:
        async with Beside(stream) as beside:
            async with httpx.AsyncClient() as client, client.stream("GET", beside.url) as answer:
                chunks = answer.aiter_bytes()
                for _ in range(3):
                    assert await anext(chunks) == b"tick\n"
            await until(lambda: bool(ended))
            assert ended == ["http.disconnect"]

    run(loop, main())


@every_other_loop
def test_a_slow_client_holds_the_application_back(loop: str) -> None:
    sent = 0

    async def flood(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200})
        for _ in range(2000):
            await send({"type": "http.response.body", "body": b"x" * 16384, "more_body": True})
            sent += 1
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        async with Beside(flood) as beside:
            reader, writer = await asyncio.open_connection("127.0.0.1", beside.server.port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            before = -1
            while sent != before:  # until it stands still
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 2000
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            received = await reader.read()
            assert received.count(b"x") >= 2000 * 16384
            writer.close()
            await writer.wait_closed()

    run(loop, main())


@every_loop
def test_the_lifespan_and_its_state_are_the_application_s(loop: str) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await respond(send, scope["state"]["greeting"].encode())
            return
        seen.append((await receive())["type"])
        scope["state"]["greeting"] = "hello"
        await send({"type": "lifespan.startup.complete"})
        seen.append((await receive())["type"])
        await asyncio.sleep(0.01)
        await send({"type": "lifespan.shutdown.complete"})

    async def main() -> None:
        async with Beside(app) as beside, httpx.AsyncClient() as client:
            assert (await client.get(beside.url)).text == "hello"
        assert beside.server.exit_status == 0

    run(loop, main())
    assert seen == ["lifespan.startup", "lifespan.shutdown"]


@every_loop
def test_a_start_that_fails_is_an_error_of_serve(
    loop: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        raise ValueError(f"no {scope['type']}")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="did not start"):
            await rsgi.serve(app, port=0, lifespan="on")

    run(loop, main())
    assert "ValueError: no lifespan" in capfd.readouterr().err


@every_loop
def test_an_exception_is_logged_with_its_traceback(
    loop: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/call":
            await respond(send, b"")
        raise LookupError("it is broken")

    def plain(_scope: Any, _receive: Any, _send: Any) -> Any:
        raise LookupError("it is broken before it waits")

    async def main() -> None:
        for broken in (app, plain):
            async with Beside(broken, lifespan="off") as beside, httpx.AsyncClient() as client:
                assert (await client.get(beside.url)).status_code == 500

    run(loop, main())
    log = capfd.readouterr().err
    assert log.count("Exception in ASGI application\nTraceback") == 2, log
    assert "LookupError: it is broken\n" in log
    assert "LookupError: it is broken before it waits\n" in log


@every_loop
def test_cancelling_it_lets_a_request_finish(loop: str) -> None:
    async def main() -> None:
        called, release = asyncio.Event(), asyncio.Event()

        async def slow(_scope: Any, _receive: Any, send: Any) -> None:
            called.set()
            await release.wait()
            await respond(send, b"late")

        server = rsgi.Server(rsgi.Config(slow, port=0, lifespan="off", access_log=False))
        task = asyncio.create_task(server.serve())
        await until(lambda: server.started)
        async with httpx.AsyncClient(timeout=DEADLINE) as client:
            request = asyncio.create_task(client.get(server.addresses[0]))
            await called.wait()
            task.cancel()
            await until(lambda: refuses(server.port))
            assert not task.done()
            release.set()
            assert (await request).text == "late"
        with pytest.raises(asyncio.CancelledError):
            await task

    run(loop, main())


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # The listener went while this waited in its queue.
    return False


@every_loop
def test_cancelling_it_twice_does_not_wait_for_requests(loop: str) -> None:
    async def main() -> None:
        called = asyncio.Event()

        async def endless(_scope: Any, _receive: Any, _send: Any) -> None:
            called.set()
            await asyncio.Event().wait()

        server = rsgi.Server(rsgi.Config(endless, port=0, lifespan="off", log_level="critical"))
        task = asyncio.create_task(server.serve())
        await until(lambda: server.started)
        async with httpx.AsyncClient(timeout=DEADLINE) as client:
            request = asyncio.create_task(client.get(server.addresses[0]))
            await called.wait()
            task.cancel()
            await asyncio.sleep(0)
            await until(lambda: refuses(server.port))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.gather(request, return_exceptions=True)

    run(loop, main())


def server_threads() -> list[str]:
    """Which of the threads that a server starts there are; the log's belongs to the process."""
    found = []
    for task in Path("/proc/self/task").glob("*/comm"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found.append(task.read_text().strip())
    return sorted(name for name in found if name in {"rsgi-io", "rsgi-watchdog"})


@every_other_loop
def test_no_thread_is_left(loop: str) -> None:
    async def main() -> None:
        async with Beside(whoami) as beside, httpx.AsyncClient() as client:
            assert "rsgi-io" in server_threads()
            await client.get(beside.url)
        # It has been joined: that ends before the kernel takes the thread off its list. The loop
        # does nothing meanwhile, so that a thread that needed it would stay.
        eventually(lambda: "rsgi-io" not in server_threads(), "the end of a joined thread", 2)

    for _ in range(3):
        run(loop, main())
    # The watchdog is told to end, and not waited for.
    eventually(lambda: not server_threads(), "threads of the server end")


@every_other_loop
def test_nothing_is_left_of_a_server_and_its_application(loop: str) -> None:
    import gc
    import weakref

    class App:
        async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
            await respond(send, b"")

    gone = []

    async def main() -> None:
        app = App()
        gone.append(weakref.ref(app))
        async with Beside(app, lifespan="off") as beside, httpx.AsyncClient() as client:
            await asyncio.gather(*(client.get(beside.url) for _ in range(20)))

    run(loop, main())

    def is_gone() -> bool:
        gc.collect()
        return gone[0]() is None

    eventually(is_gone, "the application is collected")


@every_loop
def test_requests_see_the_context_that_serve_was_awaited_in(loop: str) -> None:
    variable = contextvars.ContextVar("variable", default="nothing")

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        seen = variable.get()
        variable.set("a request's own")
        await respond(send, seen.encode())

    async def main() -> None:
        async with Beside(app, lifespan="off") as beside, httpx.AsyncClient() as client:
            answers = [(await client.get(beside.url)).text for _ in range(2)]
        expected = "nothing" if loop == "rsgi" else "the program's"
        assert answers == [expected, expected]

    async def inside() -> None:
        variable.set("the program's")
        await main()

    run(loop, inside())


@every_other_loop
def test_it_runs_beside_what_the_loop_does_and_stops_with_it(loop: str) -> None:
    answers = []

    async def main() -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        serving = asyncio.create_task(
            rsgi.serve(whoami, port=port, lifespan="off", access_log=False)
        )
        async with httpx.AsyncClient() as client:

            async def answered() -> bool:
                try:
                    answers.append((await client.get(f"http://127.0.0.1:{port}")).text)
                except httpx.ConnectError:
                    return False
                return True

            async with asyncio.timeout(DEADLINE):
                while not await answered():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert not serving.done()
        # The program ends here; `asyncio.run` cancels what is left.

    run(loop, main())
    assert answers == [f"MainThread {loop} 0"]


@every_other_loop
def test_servers_of_one_loop_end_one_by_one(loop: str) -> None:
    async def main() -> None:
        async with httpx.AsyncClient() as client, Beside(whoami) as first:
            async with Beside(whoami) as second:
                for beside in (first, second):
                    assert (await client.get(beside.url)).status_code == 200
            assert refuses(second.server.port)
            assert (await client.get(first.url)).status_code == 200

    run(loop, main())


@every_other_loop
def test_a_loop_that_is_thrown_away_ends_the_server(
    loop: str, capfd: pytest.CaptureFixture[str]
) -> None:
    event_loop = LOOPS[loop]()
    server = rsgi.Server(rsgi.Config(whoami, port=0, lifespan="off", log_level="critical"))
    coroutine = server.serve()
    task = event_loop.create_task(coroutine)

    async def started() -> None:
        await until(lambda: server.started)

    event_loop.run_until_complete(started())
    event_loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine.close()
    eventually(lambda: refuses(server.port), "the port is free")
    eventually(lambda: "rsgi-io" not in server_threads(), "the end of the connections' thread")
    assert capfd.readouterr().err == ""


@every_loop
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_and_reaches_the_program(
    loop: str, number: signal.Signals
) -> None:
    taken: list[int] = []
    before = signal.signal(number, lambda number, _frame: taken.append(number))

    async def main() -> None:
        server = rsgi.Server(rsgi.Config(whoami, port=0, lifespan="off", access_log=False))
        task = asyncio.create_task(server.serve())
        await until(lambda: server.started)
        os.kill(os.getpid(), number)
        async with asyncio.timeout(DEADLINE):
            await task
        assert server.should_exit

    try:
        run(loop, main())
    finally:
        signal.signal(number, before)
    assert taken == [number]


@every_other_loop
def test_many_clients_at_once_are_all_answered(loop: str) -> None:
    async def main() -> None:
        client = httpx.AsyncClient(timeout=DEADLINE)
        async with Beside(whoami) as beside, client:

            async def ask(first: int) -> None:
                for size in range(first, first + 15):
                    answer = await client.post(beside.url, content=b"x" * size)
                    assert answer.text == f"MainThread {loop} {size}"

            await asyncio.gather(*(ask(first) for first in range(0, 20_000, 1000)))

    run(loop, main())


def test_a_websocket_is_told_of_the_stop() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"

    async def main() -> None:
        async with Beside(app, lifespan="off") as beside:
            url = beside.url.replace("http", "ws")
            async with websockets.connect(url) as websocket:
                beside.server.should_exit = True
                with pytest.raises(ConnectionClosed):
                    await websocket.recv()
                assert websocket.close_code in (1000, 1012)

    run("asyncio", main())


def test_interrupts_leave_the_loop() -> None:
    async def main() -> None:
        def app(_scope: Any, _receive: Any, _send: Any) -> Any:
            raise KeyboardInterrupt

        async with Beside(app, lifespan="off", log_level="critical") as beside:
            with socket.create_connection(("127.0.0.1", beside.server.port)) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                await asyncio.sleep(DEADLINE)

    with pytest.raises(KeyboardInterrupt) as raised:
        run("asyncio", main())
    names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert "app" in names, names
