"""`rsgi.Server` in programs of one's own: on a thread of a test, or awaited on rsgi's loop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from typing import Any

import httpx
import pytest
import rsgi

from tests.support.flavour import rsgi_only
from tests.support.waiting import eventually

pytestmark = rsgi_only("is another server's API")


async def application(scope: Any, _receive: Any, send: Any) -> None:
    """Answer with the name of the thread that the application runs on."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": threading.current_thread().name.encode()})


def server(app: Any = application, **settings: Any) -> rsgi.Server:
    settings = {"port": 0, "lifespan": "off", "access_log": False, **settings}
    return rsgi.Server(rsgi.Config(app, **settings))


def test_a_test_serves_from_a_thread() -> None:
    with server().run_in_thread() as running:
        assert running.started
        assert running.addresses == [f"http://127.0.0.1:{running.port}"]
        assert httpx.get(running.addresses[0]).text == "rsgi"
        port = running.port
    assert running.should_exit
    assert running.exit_status == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_servers_run_side_by_side() -> None:
    with server().run_in_thread() as one, server().run_in_thread() as two:
        assert one.port != two.port
        assert httpx.get(one.addresses[0]).text == httpx.get(two.addresses[0]).text == "rsgi"


def test_a_stop_lets_a_request_finish() -> None:
    called, release = threading.Event(), threading.Event()

    async def slow(_scope: Any, _receive: Any, send: Any) -> None:
        called.set()
        await asyncio.get_running_loop().run_in_executor(None, release.wait)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"late"})

    texts: list[str] = []
    with server(slow).run_in_thread() as running:
        client = threading.Thread(
            target=lambda: texts.append(httpx.get(running.addresses[0], timeout=30).text)
        )
        client.start()
        assert called.wait(30)
        running.should_exit = True
        release.set()
        client.join()
    assert texts == ["late"]


def test_force_exit_does_not_wait_for_requests() -> None:
    called = threading.Event()

    async def stuck(_scope: Any, _receive: Any, _send: Any) -> None:
        called.set()
        await asyncio.get_running_loop().create_future()

    with server(stuck).run_in_thread() as running:
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert called.wait(30)
            running.force_exit = True
            client.settimeout(30)
            assert client.recv(4096).startswith(b"HTTP/1.1 500 ")


def test_a_lifespan_that_fails_is_a_start_that_fails() -> None:
    async def failing(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    starting = server(failing, lifespan="on")
    with pytest.raises(RuntimeError, match="exit status 3"), starting.run_in_thread():
        pytest.fail("it does not start")
    assert not starting.started
    assert starting.exit_status == 3


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        starting = server(port=taken.getsockname()[1])
        with pytest.raises(RuntimeError, match="did not start: address already in use"):
            with starting.run_in_thread():
                pytest.fail("it does not start")
        assert starting.exit_status == 3
        assert starting.addresses == []


def test_sockets_of_the_program_are_listened_on_and_closed() -> None:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))  # and not listening: the server does
    sockets = [socket.create_server(("127.0.0.1", 0)), bound]
    running = server(port=1)  # where it would not be allowed to
    thread = threading.Thread(target=running.run, args=(sockets,), name="serving")
    thread.start()
    eventually(lambda: running.started, "the start")
    texts = [httpx.get(address, trust_env=False).text for address in running.addresses]
    running.should_exit = True
    thread.join()
    assert texts == ["serving", "serving"]
    assert [it.fileno() for it in sockets] == [-1, -1]


def test_a_socket_that_is_not_bound_is_a_start_that_fails() -> None:
    with socket.socket() as unbound:
        running = server()
        running.run([unbound])
    assert not running.started
    assert running.exit_status == 3


def test_serve_is_awaited_beside_other_tasks() -> None:
    async def program() -> str:
        running = server()
        serving = asyncio.create_task(running.serve())
        while not running.started:  # noqa: ASYNC110 - as uvicorn's users wait
            await asyncio.sleep(0.001)
        async with httpx.AsyncClient() as client:
            text = (await client.get(running.addresses[0])).text
        running.should_exit = True
        await serving
        return text

    with asyncio.Runner(loop_factory=rsgi.new_event_loop) as runner:
        assert runner.run(program()) == "MainThread"


def test_cancelling_serve_stops_the_server_first() -> None:
    async def program() -> rsgi.Server:
        running = server()
        serving = asyncio.create_task(running.serve())
        while not running.started:  # noqa: ASYNC110 - as uvicorn's users wait
            await asyncio.sleep(0.001)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        return running

    with asyncio.Runner(loop_factory=rsgi.new_event_loop) as runner:
        running = runner.run(program())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.port), 5)


def test_a_signal_stops_the_server_and_reaches_the_program() -> None:
    seen: list[int] = []
    running = server()

    def send_one() -> None:
        eventually(lambda: running.started, "a server that has started")
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
    sender = threading.Thread(target=send_one)
    try:
        sender.start()
        running.run()
        sender.join()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert running.started
    assert seen == [signal.SIGTERM]


def test_a_server_serves_once() -> None:
    with server().run_in_thread() as running:
        pass
    with pytest.raises(RuntimeError, match="already"):
        running.run()


def test_wrong_settings_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="prot"):
        rsgi.Config(application, prot=8000)
    with pytest.raises(ValueError, match="workers"):
        rsgi.Config(application, workers=2)
    config = rsgi.Config(application, port=8000)
    assert config.app is application
    assert dict(config.settings) == {"port": 8000}
