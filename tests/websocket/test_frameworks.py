"""WebSockets through each framework. The routes are in `tests/apps/sockets`."""

from __future__ import annotations

import json

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol
from wsproto.events import CloseConnection

from tests.conftest import Shared
from tests.support.http2 import Http2
from tests.support.http2_websocket import SocketOverHttp2
from tests.support.server import Server
from tests.support.waiting import eventually
from tests.support.websocket import open_client

DENIALS = {"starlette": 401, "fastapi": 403, "quart": 401, "channels": 403}


@pytest.fixture(params=sorted(DENIALS))
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(framework: str, shared: Shared) -> Server:
    return shared(f"tests.apps.sockets.{framework}_app:app")


def test_messages_are_echoed(server: Server) -> None:
    with open_client(server, subprotocols=[Subprotocol("chat")]) as client:
        assert client.subprotocol == "chat"
        value = {"text": "\u017elu\u0165ou\u010dk\u00fd", "list": [1, 2.5, None]}
        client.send(json.dumps(value))
        assert json.loads(client.recv(timeout=30)) == value
        # Not 0: Quart looks for a text then, and uvicorn's messages have no other key, either.
        for length in (1, 10, 100_000):
            client.send(bytes(length))
            assert client.recv(timeout=30) == bytes(length)
        client.close(4001, "bye")


def test_http2_makes_no_difference(server: Server, framework: str) -> None:
    with Http2(server) as client:
        offer = ("sec-websocket-protocol", "chat")
        sockets = [SocketOverHttp2(client, "/echo", offer, deflate=True) for _ in range(3)]
        for number, websocket in enumerate(sockets):
            assert websocket.answer.value("sec-websocket-protocol") == "chat"
            websocket.send(json.dumps(number))
        for number, websocket in enumerate(sockets):
            assert json.loads(websocket.receive()) == number
            for length in (1, 10, 100_000):
                websocket.send(bytes(length))
                assert websocket.receive() == bytes(length)
            websocket.close(4001, "bye")
        denied = SocketOverHttp2(client, "/deny")
        assert denied.answer.status == DENIALS[framework]
        ending = SocketOverHttp2(client, "/end").receive_event()
        assert isinstance(ending, CloseConnection)
        assert (ending.code, ending.reason) == (4000, "done")


def test_a_connection_is_denied(server: Server, framework: str) -> None:
    with pytest.raises(InvalidStatus) as raised, open_client(server, "/deny"):
        pass
    assert raised.value.response.status_code == DENIALS[framework]


def test_the_framework_closes(server: Server) -> None:
    with open_client(server, "/end") as client, pytest.raises(ConnectionClosed) as raised:
        client.recv(timeout=30)
    assert raised.value.rcvd is not None
    assert (raised.value.rcvd.code, raised.value.rcvd.reason) == (4000, "done")


def test_starlette_is_told_code_and_reason(shared: Shared) -> None:
    server = shared("tests.apps.sockets.starlette_app:app")
    with open_client(server, subprotocols=[Subprotocol("chat")]) as client:
        client.send("{}")
        client.recv(timeout=30)
        client.close(4321, "why")

    def last_end() -> bool:
        with open_client(server, "/last-end") as client:
            return client.recv(timeout=30) == "4321 why"

    eventually(last_end, "the end in the application")
