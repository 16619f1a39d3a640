"""Files as responses: `http.response.pathsend` and `http.response.zerocopysend`."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from websockets.sync.client import connect as connect_websocket

from tests.conftest import Serve, Shared
from tests.support.certificates import Authority
from tests.support.flavour import rsgi_only
from tests.support.http2 import Http2
from tests.support.server import Server
from tests.support.waiting import eventually
from tests.support.wire import Response

pytestmark = rsgi_only("does not send files")
APP = "tests.apps.files:app"
MB = 1024 * 1024


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared(APP, allow_tracebacks=True)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_bytes(b"0123456789abcdef")
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "large"
    path.write_bytes(os.urandom(20 * MB + 12345))
    return path


def get(server: Server, target: str, path: Path | str, method: str = "GET") -> Response:
    with server.connect() as wire:
        wire.request(target, method, (("X-Path", str(path)),))
        return wire.read_response(method)


def get_http2(server: Server, target: str, path: Path, window: int | None = None) -> bytes:
    with Http2(server, window=window) as client:
        return client.read(client.start(target, fields=[("x-path", str(path))])).body


# By name


def test_a_file_has_its_length(server: Server, small: Path) -> None:
    response = get(server, "/path", small)
    assert (response.body, response.value(b"content-length")) == (b"0123456789abcdef", b"16")


def test_an_empty_file_is_sent(server: Server, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    response = get(server, "/path", tmp_path / "empty")
    assert (response.body, response.value(b"content-length")) == (b"", b"0")


def test_a_file_keeps_the_connection(server: Server, small: Path, large: Path) -> None:
    with server.connect() as wire:
        for path in (small, large, small):
            assert wire.get("/path", (("X-Path", str(path)),)).body == path.read_bytes()


def test_a_large_file_is_sent_over_http_1_0(server: Server, large: Path) -> None:
    with server.connect() as wire:
        wire.send(f"GET /path HTTP/1.0\r\nX-Path: {large}\r\n\r\n".encode())
        response = wire.read_response()
    assert response.value(b"content-length") == str(large.stat().st_size).encode()
    assert response.body == large.read_bytes()


@pytest.mark.parametrize("window", [None, 1000], ids=["window", "small-window"])
def test_a_file_is_sent_over_http_2(
    server: Server, small: Path, large: Path, window: int | None
) -> None:
    assert get_http2(server, "/path", small, window) == small.read_bytes()
    if window is None:
        assert get_http2(server, "/path", large) == large.read_bytes()


def test_a_file_is_not_sent_to_head(server: Server, large: Path) -> None:
    response = get(server, "/path", large, "HEAD")
    assert response.value(b"content-length") == str(large.stat().st_size).encode()
    with Http2(server) as client:
        reply = client.read(client.start("/path", "HEAD", [("x-path", str(large))]))
        assert (reply.body, reply.value("content-length")) == (b"", str(large.stat().st_size))


def test_a_file_is_not_sent_where_no_content_may_follow(server: Server, small: Path) -> None:
    response = get(server, "/not-modified", small)
    assert (response.status, response.value(b"content-length")) == (304, None)


def test_trailers_may_follow_a_file(server: Server, small: Path) -> None:
    with server.connect() as wire:
        response = wire.get("/trailers", (("X-Path", str(small)), ("TE", "trailers")))
        assert (response.body, response.trailers) == (small.read_bytes(), [(b"x-sum", b"42")])


def test_a_file_that_nobody_awaits_is_sent(server: Server, large: Path) -> None:
    assert get(server, "/unawaited", large).body == large.read_bytes()


@pytest.mark.parametrize(
    ("name", "error"),
    [("missing", "FileNotFoundError 2"), ("secret", "PermissionError 13"), ("loop", "OSError 40")],
)
def test_what_cannot_be_opened_is_the_applications_to_answer(
    server: Server, tmp_path: Path, name: str, error: str
) -> None:
    if name == "secret":
        (tmp_path / name).touch(mode=0)
        if os.access(tmp_path / name, os.R_OK):
            pytest.skip("nothing is secret from this user")
    if name == "loop":
        (tmp_path / name).symlink_to(tmp_path / name)
    response = get(server, "/path-or-text", tmp_path / name)
    assert response.body.decode() == f"{error} {tmp_path / name}"


def test_a_missing_file_is_an_error_of_the_application(
    server: Server, tmp_path: Path, key: str
) -> None:
    assert get(server, f"/path?{key}", tmp_path / "missing").status == 500
    assert "FileNotFoundError: [Errno 2] No such file" in server.journal(key)[0]


@pytest.mark.parametrize("name", ["", "pipe"])
def test_only_regular_files_are_sent(server: Server, tmp_path: Path, key: str, name: str) -> None:
    if name:
        os.mkfifo(tmp_path / name)
    assert get(server, f"/path?{key}", tmp_path / name).status == 500
    assert server.journal(key) == ["ValueError: only regular files can be sent"]


@pytest.mark.parametrize(("length", "what"), [(17, "short of"), (15, "longer than")])
def test_the_length_that_was_declared_has_to_be_right(
    server: Server, small: Path, key: str, length: int, what: str
) -> None:
    with server.connect() as wire:
        fields = (("X-Path", str(small)), ("X-Length", str(length)))
        wire.request(f"/path?{key}", headers=fields)
        assert wire.read_response().status == 500
    assert what in server.journal(key)[0]


def test_a_file_before_the_start_is_refused(server: Server, small: Path) -> None:
    assert b"`http.response.pathsend`: the response has not started" in (
        get(server, "/too-early", small).body
    )


# While it is sent


def test_a_file_that_is_truncated_cuts_the_connection(serve: Serve, tmp_path: Path) -> None:
    server = serve(APP, allow_tracebacks=True)
    path = tmp_path / "file"
    path.write_bytes(bytes(60 * MB))
    with server.connect(receive_buffer=64 * 1024) as wire:
        wire.request("/path?cut", headers=(("X-Path", str(path)),))
        assert wire.read_head().value(b"content-length") == str(60 * MB).encode()
        os.truncate(path, MB)
        assert len(wire.read_to_end()) < 60 * MB
    found = eventually(lambda: server.journal("cut"), "an end")
    assert "OSError: the file was truncated" in found[0]


def test_a_client_that_leaves_ends_the_sending(server: Server, large: Path, key: str) -> None:
    with server.connect(receive_buffer=64 * 1024) as wire:
        wire.request(f"/path?{key}", headers=(("X-Path", str(large)),))
        wire.read_head()
    found = eventually(lambda: server.journal(key), "an end")
    assert found[0].startswith("ClientDisconnected")


def test_a_client_that_reads_slowly_costs_no_memory(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1024 * MB)
    server = serve(APP)
    before = server.memory()
    length = 0
    with server.connect(receive_buffer=256 * 1024) as wire:
        wire.request("/path", headers=(("X-Path", str(path)),))
        wire.read_head()
        time.sleep(0.5)
        peak = server.memory()
        while length < 256 * MB:
            data = wire.read_some()
            length += len(data)
            peak = max(peak, server.memory()) if length % (16 * MB) < len(data) else peak
    assert peak - before < 10 * MB, f"{(peak - before) / MB:.1f} MB"
    assert server.get("/extensions").status_code == 200


def test_the_loop_goes_on_while_a_file_is_sent(serve: Serve, large: Path) -> None:
    server = serve(APP)
    with server.connect(receive_buffer=64 * 1024) as wire:
        wire.request("/path", headers=(("X-Path", str(large)),))
        wire.read_head()
        assert server.get("/extensions").status_code == 200
        assert psutil.Process(server.worker_pids()[0]).is_running()


# By descriptor


def test_a_descriptor_may_be_closed_at_once(server: Server, small: Path, large: Path) -> None:
    response = get(server, "/descriptor", small)
    assert (response.body, response.value(b"content-length")) == (small.read_bytes(), b"16")
    assert get(server, "/descriptor", large).body == large.read_bytes()


def test_parts_of_a_file_stand_between_other_content(server: Server, small: Path) -> None:
    assert get(server, "/parts", small).body == b"<234|abcdef|0123>"
    assert get_http2(server, "/parts", small) == b"<234|abcdef|0123>"


def test_a_file_is_sent_from_where_it_was_read_to(server: Server, small: Path) -> None:
    assert get(server, "/position", small).body == b"3456789abcdef" + b"ef"


def test_what_is_no_file_is_refused(server: Server, small: Path) -> None:
    assert get(server, "/pipe", small).body == b"OSError OSError OSError TypeError ValueError"


# Which extensions are there

FILES = {"http.response.debug", "http.response.pathsend", "http.response.zerocopysend"}
HINTS = FILES | {"http.response.early_hint"}
TRAILERS = HINTS | {"http.response.trailers"}


def http_1(server: Server, version: str, *fields: str, context: ssl.SSLContext | None) -> set[str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    if context:
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context)
    connection.connect()
    lines = [f"GET /extensions HTTP/{version}", "Host: localhost", *fields, "", ""]
    connection.sock.sendall("\r\n".join(lines).encode())
    response = http.client.HTTPResponse(connection.sock)
    response.begin()
    names = set(json.loads(response.read()))
    connection.close()
    return names


def http_2(server: Server, context: ssl.SSLContext | None) -> set[str]:
    scheme = "https" if context else "http"
    verify: ssl.SSLContext | bool = context or False
    with httpx.Client(http1=False, http2=True, verify=verify, trust_env=False) as client:
        response = client.get(f"{scheme}://localhost:{server.port}/extensions")
        assert response.http_version == "HTTP/2"
        return set(response.json())


def websocket(server: Server, context: ssl.SSLContext | None) -> set[str]:
    scheme = "wss" if context else "ws"
    url = f"{scheme}://localhost:{server.port}/"
    with connect_websocket(url, ssl=context, proxy=None) as client:
        return set(str(client.recv()).split())


def test_extensions_are_there_exactly_where_they_work(serve: Serve, tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("localhost").write(tmp_path)
    app = "tests.apps.files:with_sockets"
    secure = serve(app, "--ssl-certfile", certificate, "--ssl-keyfile", key)
    ask: dict[str, tuple[Callable[[Server, ssl.SSLContext | None], set[str]], set[str]]] = {
        "HTTP/1.0": (lambda server, tls: http_1(server, "1.0", context=tls), FILES),
        "HTTP/1.1": (lambda server, tls: http_1(server, "1.1", context=tls), HINTS),
        "HTTP/1.1 with trailers": (
            lambda server, tls: http_1(server, "1.1", "TE: trailers", context=tls),
            TRAILERS,
        ),
        "HTTP/2": (http_2, TRAILERS),
        "WebSocket": (websocket, {"websocket.http.response"}),
    }
    for server, context in ((serve(app), None), (secure, authority.client())):
        tls = {"tls"} if context else set()
        for name, (names, expected) in ask.items():
            if context:
                context.set_alpn_protocols(["h2" if name == "HTTP/2" else "http/1.1"])
            assert names(server, context) == expected | tls, (name, bool(context))


def test_a_file_is_sent_over_tls(serve: Serve, tmp_path: Path, large: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("localhost").write(tmp_path)
    server = serve(APP, "--ssl-certfile", certificate, "--ssl-keyfile", key)
    context = authority.client()
    connection = http.client.HTTPSConnection("localhost", server.port, context=context)
    connection.request("GET", "/path", headers={"X-Path": str(large)})
    assert connection.getresponse().read() == large.read_bytes()
    connection.close()
