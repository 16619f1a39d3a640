"""How WebSockets end: who is told what, and what a stop of the server does."""

from __future__ import annotations

import contextlib
import signal

import pytest
from websockets.exceptions import ConnectionClosed

from tests.conftest import Serve, Shared
from tests.support.server import Server
from tests.support.websocket import CLOSE, PING, PONG, TEXT, RawWebSocket, open_client

APP = "tests.apps.sockets.scenarios:app"


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared(APP)


def closed(client: object) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as raised:
        client.recv(timeout=30)  # type: ignore[attr-defined]
    assert raised.value.rcvd is not None, raised.value
    return raised.value.rcvd.code, raised.value.rcvd.reason


def test_the_clients_code_and_reason_reach_the_application(server: Server, key: str) -> None:
    with open_client(server, f"/echo?{key}") as client:
        client.close(4001, "bye")
    server.wait_for_journal(key, "disconnect 4001 bye")


def test_no_code_is_1005(server: Server, key: str) -> None:
    with RawWebSocket(server, f"/echo?{key}") as raw:
        raw.send(CLOSE)
        raw.expect(CLOSE, b"")
    server.wait_for_journal(key, "disconnect 1005")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_cut_is_1006(server: Server, key: str, how: str) -> None:
    raw = RawWebSocket(server, f"/echo?{key}")
    getattr(raw.wire, how)()
    server.wait_for_journal(key, "disconnect 1006")


def test_send_raises_an_os_error_after_the_end(server: Server, key: str) -> None:
    with RawWebSocket(server, f"/send-until-it-fails?{key}") as raw:
        raw.expect(TEXT, b"tick")
        raw.send(CLOSE, b"\x0f\xa1")
        while (frame := raw.read()).opcode == TEXT:
            pass
        assert frame.close_code == 4001
    server.wait_for_journal(key, "disconnect 4001")
    assert server.journal(key) == ["OSError ClientDisconnected", "disconnect 4001"]


def test_the_application_closes(server: Server, key: str) -> None:
    with open_client(server, f"/close?{key}") as client:
        assert closed(client) == (4002, "b\u00fc")
    journal = server.wait_for_journal(
        key,
        "unexpected message `websocket.send`: the application has closed the WebSocket",
    )
    assert journal[0] == "disconnect 4002 b\u00fc"


def test_an_application_that_fails_closes_with_1011(serve: Serve) -> None:
    server = serve(APP, allow_tracebacks=True)
    with open_client(server, "/raise-after") as client:
        assert closed(client)[0] == 1011
    server.wait_for_log("RuntimeError: after")


def test_an_application_that_returns_closes_with_1000(server: Server) -> None:
    with open_client(server, "/return-after") as client:
        assert closed(client)[0] == 1000


def test_pings_are_sent_and_a_client_that_answers_stays(serve: Serve, key: str) -> None:
    server = serve(APP, "--ws-ping-interval", "0.1", "--ws-ping-timeout", "30")
    with RawWebSocket(server, f"/echo?{key}") as raw:
        for _ in range(5):
            ping = raw.read()
            assert ping.opcode == PING
            raw.send(PONG, ping.payload)
        assert server.journal(key) == []


def test_a_client_that_does_not_answer_pings_is_a_1011(serve: Serve, key: str) -> None:
    server = serve(APP, "--ws-ping-interval", "0.1", "--ws-ping-timeout", "0.5")
    with RawWebSocket(server, f"/echo?{key}") as raw:
        assert raw.read().opcode == PING
        raw.expect_closed(1011)
    server.wait_for_journal(key, "disconnect 1011 keepalive ping timeout")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_the_application_say_goodbye(serve: Serve, number: signal.Signals) -> None:
    server = serve(APP)
    with open_client(server, "/goodbye") as client:
        server.signal(number)
        assert client.recv(timeout=30) == "disconnect 1012"
        assert client.recv(timeout=30) == "goodbye"
        assert closed(client)[0] == 1012
    assert server.wait(30) == 0


def test_a_stop_closes_what_does_not_listen(serve: Serve) -> None:
    server = serve(APP, "--timeout-graceful-shutdown", "4")
    with open_client(server, "/never") as client:
        server.signal(signal.SIGTERM)
        assert closed(client)[0] == 1012
    server.wait_for_log("Cancel 1 running task")
    assert server.wait(30) == 0


def test_a_stop_does_not_wait_for_idle_websockets(serve: Serve) -> None:
    server = serve(APP)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(open_client(server)) for _ in range(20)]
        server.signal(signal.SIGTERM)
        for client in clients:
            assert closed(client)[0] == 1012
    assert server.wait(30) == 0


def test_a_client_that_breaks_the_rules_does_not_disturb_others(server: Server, key: str) -> None:
    with RawWebSocket(server) as good, RawWebSocket(server, f"/echo?{key}") as bad:
        bad.send(TEXT, b"\xff")
        bad.expect_closed(1007)
        good.send(TEXT, b"fine")
        good.expect(TEXT, b"fine")
    server.wait_for_journal(key, "disconnect 1007 invalid UTF-8")
