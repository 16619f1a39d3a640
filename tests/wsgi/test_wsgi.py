"""Flask and Django's WSGI side, through `a2wsgi`."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.waiting import DEADLINE, eventually

pytestmark = rsgi_only("runs WSGI in its own way, and says that it is deprecated")

FLASK = "tests.apps.wsgi.flask_app:app"
DJANGO = "tests.apps.wsgi.django_app"


@pytest.fixture
def flask(serve: Serve) -> Server:
    return serve(FLASK, "--interface", "wsgi", "--wsgi-threads", "4")


def test_a_request_is_what_flask_expects(serve: Serve) -> None:
    server = serve(FLASK, "--interface", "wsgi", "--root-path", "/api")
    with server.client() as client:
        answer = client.get("/?a=1", headers={"cookie": "c=2", "user-agent": "x"})
    assert answer.headers["server"] == "rsgi"
    assert answer.json() == {
        "method": "GET",
        "path": "/",
        "root": "/api",
        "script": "/api",
        "query": {"a": "1"},
        "scheme": "http",
        "client": "127.0.0.1",
        "agent": "x",
        "cookies": {"c": "2"},
        "server": "rsgi",
        "thread": True,
    }


def test_content_goes_both_ways(flask: Server) -> None:
    content = bytes(range(256)) * 10_000
    with flask.client() as client:
        assert client.post("/echo", content=content).content == content
        pieces = (content[:100_000] for _ in range(20))
        assert client.post("/length", content=pieces).json() == {"length": 2_000_000}
        assert client.get("/stream").text.count("line") == 1000


def test_as_many_calls_run_at_once_as_there_are_threads(flask: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: flask.get("/wait").text, range(4)))
    assert answers == ["together"] * 4


def test_a_thread_is_free_again_once_its_client_has_gone(flask: Server) -> None:
    """Otherwise four clients that leave would be the end of the worker."""
    for number in range(1, 9):
        with socket.create_connection(("127.0.0.1", flask.port), DEADLINE) as client:
            client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100_000).startswith(b"HTTP/1.1 200")
        assert eventually(lambda: flask.get("/journal").json() == ["closed"] * number)  # noqa: B023


def test_content_that_ends_too_early_is_an_error_for_the_application(flask: Server) -> None:
    with socket.create_connection(("127.0.0.1", flask.port), DEADLINE) as client:
        client.sendall(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc")
    assert eventually(lambda: len(flask.get("/journal").json()) == 1)
    assert flask.get("/").status_code == 200


def test_an_exception_is_500(serve: Serve) -> None:
    server = serve(FLASK, "--interface", "wsgi", allow_tracebacks=True)
    assert server.get("/error").status_code == 500
    assert server.get("/").status_code == 200
    assert "LookupError: it is broken" in server.stderr()


def test_the_application_s_errors_go_where_the_server_s_go(flask: Server) -> None:
    assert flask.get("/log").text == "logged"
    assert eventually(lambda: "a line for the error log" in flask.stderr())
    assert "a line for the error log" not in flask.stdout()


def test_a_websocket_is_refused(flask: Server) -> None:
    with flask.client() as client:
        answer = client.get(
            "/",
            headers={
                "connection": "upgrade",
                "upgrade": "websocket",
                "sec-websocket-version": "13",
                "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
            },
        )
    assert answer.status_code == 403


@pytest.mark.parametrize("flags", [(), ("--preload",)])
def test_django_is_served_by_several_workers(serve: Serve, flags: tuple[str, ...]) -> None:
    server = serve(DJANGO, "--interface", "wsgi", *flags, workers=2)
    server.wait_for_workers(2)
    with server.client() as client:
        assert client.get("/facts?a=1").json() == {
            "path": "/facts",
            "method": "GET",
            "query": {"a": "1"},
        }
        files = {"file": ("name", b"x" * 100_000)}
        answer = client.post("/form", data={"a": "1"}, files=files)
        assert answer.json() == {"form": {"a": "1"}, "files": {"file": 100_000}}
        assert client.get("/stream").text.count("line") == 100


def test_requests_in_threads_are_finished_on_a_stop(serve: Serve) -> None:
    server = serve(FLASK, "--interface", "wsgi", "--wsgi-threads", "4")
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(lambda: server.get("/wait").text) for _ in range(3)]
        assert eventually(lambda: server.get("/").status_code == 200)
        waiting.append(pool.submit(lambda: server.get("/wait").text))
        assert [request.result(DEADLINE) for request in waiting] == ["together"] * 4
    server.stop()
