"""Until it is accepted, a WebSocket is a request like any other."""

from __future__ import annotations

import json
import re

import pytest
from websockets.exceptions import InvalidStatus

from tests.conftest import Serve, Shared
from tests.support.server import Server
from tests.support.websocket import RawWebSocket, handshake, open_client

APP = "tests.apps.sockets.scenarios:app"


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared(APP)


def status_of(server: Server, target: str) -> tuple[int, bytes]:
    with pytest.raises(InvalidStatus) as raised, open_client(server, target):
        pass
    response = raised.value.response
    return response.status_code, bytes(response.body or b"")


def test_the_scope_is_complete(server: Server) -> None:
    headers = {"X-Some": "thing"}
    options = {"additional_headers": headers, "subprotocols": ["a", "b"]}
    with open_client(server, "/scope?q=%20", **options) as client:
        host, port = client.local_address[:2]
        scope = json.loads(client.recv(timeout=30))
    assert scope["type"] == "websocket"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["scheme"] == "ws"
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
        "/scope",
        "b'/scope'",
        "b'q=%20'",
    )
    assert scope["root_path"] == ""
    assert scope["http_version"] == "1.1"
    assert scope["subprotocols"] == ["a", "b"]
    assert scope["client"] == [host, port]
    assert scope["server"] == ["127.0.0.1", server.port]
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert scope["state"] == {}
    assert "method" not in scope
    assert ["b'x-some'", "b'thing'"] in scope["headers"]
    assert ["b'sec-websocket-protocol'", "b'a, b'"] in scope["headers"]


def test_the_application_chooses_subprotocol_and_headers(server: Server) -> None:
    with open_client(server, "/subprotocol", subprotocols=["a", "b"]) as client:
        assert client.subprotocol == "b"
        assert client.response is not None
        headers = client.response.headers
        assert headers["x-one"] == "1"
        assert headers["set-cookie"] == "a=b"
        assert headers["connection"] == "Upgrade"
        assert headers["server"] == "rsgi"
        assert "date" in headers
        assert client.recv(timeout=30) == "ok"


def test_a_close_before_the_accept_is_a_403(server: Server, key: str) -> None:
    assert status_of(server, f"/refuse?{key}") == (403, b"")
    server.wait_for_journal(key, "disconnect 1006")
    assert server.wait_for_access_line(key).endswith(f'"WebSocket /refuse?{key}" 403')


def test_an_application_denies_with_a_response(server: Server, key: str) -> None:
    assert status_of(server, f"/deny?{key}") == (418, b"no way")
    assert server.wait_for_access_line(key).endswith(" 418")


def test_an_accepted_one_is_logged_so(server: Server, key: str) -> None:
    with open_client(server, f"/echo?{key}") as client:
        name = ":".join(map(str, client.local_address[:2]))
        line = server.wait_for_access_line(key)
    assert line == f'INFO:     {name} - "WebSocket /echo?{key}" [accepted]'


def test_failures_before_the_accept_are_a_500(serve: Serve) -> None:
    server = serve(APP, allow_tracebacks=True)
    assert status_of(server, "/raise-before")[0] == 500
    server.wait_for_log("RuntimeError: before")
    assert status_of(server, "/return-before")[0] == 500
    server.wait_for_log("ASGI callable returned without completing handshake.")


def test_wrong_answers_are_named(server: Server) -> None:
    with open_client(server, "/misuse-accept") as client:
        errors = json.loads(client.recv(timeout=30))
    expected = [
        r"RuntimeError: unexpected message `websocket.send`: .*not accepted yet.*",
        r"ValueError: header `Sec-WebSocket-Accept`: .*the server's to send.*",
        r"ValueError: header `a`: .*control characters.*",
        r"ValueError: a subprotocol must be a token.*",
        r"TypeError: `subprotocol` of `websocket.accept` must be str, not `bytes`",
        r"RuntimeError: unexpected message `websocket.http.response.body`: .*",
        r"RuntimeError: unknown ASGI message `http.response.start` for a WebSocket.*",
        r"RuntimeError: unexpected message `websocket.accept`: the WebSocket is open.*",
    ]
    assert len(errors) == len(expected), errors
    for error, pattern in zip(errors, expected, strict=True):
        assert re.fullmatch(pattern, error), error


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"Sec_WebSocket_Version": "8"}, 426, "only 13 is"),
        ({"Sec_WebSocket_Version": None}, 400, "sec-websocket-version"),
        ({"Sec_WebSocket_Key": None}, 400, "sec-websocket-key"),
        ({"Sec_WebSocket_Key": "dG9vIHNob3J0"}, 400, "sec-websocket-key"),
        ({"Sec_WebSocket_Protocol": "a b"}, 400, "sec-websocket-protocol"),
        ({"Content_Length": "5"}, 400, "with content"),
    ],
)
def test_wrong_handshakes_are_refused_with_a_reason(
    server: Server, changes: dict[str, str | None], status: int, reason: str
) -> None:
    mark = server.mark()
    with server.connect() as wire:
        wire.send(handshake("/echo", **changes))
        head = wire.read_head()
    assert head.status == status
    assert head.value(b"sec-websocket-version") == (b"13" if status == 426 else None)
    server.wait_for_log(rf"Invalid HTTP request received from .*{reason}.* \({status}\)", mark)


@pytest.mark.parametrize(
    "changes",
    [{"Upgrade": "h2c"}, {"Connection": "keep-alive"}],
    ids=["another protocol", "not asked for"],
)
def test_what_is_no_handshake_is_an_http_request(
    server: Server, changes: dict[str, str | None]
) -> None:
    with server.connect() as wire:
        wire.send(handshake("/", **changes))
        assert wire.read_response().body == b"http"


def test_switched_off_it_is_an_http_request(serve: Serve) -> None:
    server = serve(APP, "--ws", "none")
    with server.connect() as wire:
        wire.send(handshake("/"))
        assert wire.read_response().body == b"http"


def test_uvicorns_implementations_are_the_same_here(serve: Serve) -> None:
    server = serve(APP, "--ws", "wsproto")
    server.wait_for_log("--ws wsproto has no effect: there is one WebSocket implementation")
    with RawWebSocket(server):
        pass
