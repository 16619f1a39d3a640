"""The PROXY protocol, over everything that can follow it."""

from __future__ import annotations

import ast
import json
import socket
import ssl
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.conftest import Serve, Shared
from tests.proxies.support import (
    BEHIND,
    SCOPE,
    SIGNATURE,
    is_refused,
    scope_on,
    v1,
    v2,
)
from tests.support.certificates import Authority
from tests.support.flavour import rsgi_only
from tests.support.http2 import Http2
from tests.support.server import Server
from tests.support.wire import WIRE_TIMEOUT, Wire

pytestmark = rsgi_only("does not know the PROXY protocol")

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ON = ["--proxy-protocol", "auto"]


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared(SCOPE, *ON)


@pytest.mark.parametrize(
    "header", [v1(), v2(), v2(more=b"\x04\0\x02ab"), v1("2001:db8::1"), v2("2001:db8::1")]
)
def test_client_and_server_are_those_of_the_header(server: Server, header: bytes) -> None:
    is_v6 = b"2001" in header or b"\x20\x01" in header
    client, place = ("2001:db8::1", "2001:db8::2") if is_v6 else ("198.51.100.7", "203.0.113.1")
    with server.connect() as wire:
        wire.send(header)
        for _ in range(2):
            scope = scope_on(wire)
            assert (scope["client"], scope["server"]) == ((client, 5000), (place, 443))
            assert scope["scheme"] == "http"


def test_a_header_may_drip(server: Server) -> None:
    with server.connect() as wire:
        wire.send_bytewise(v2() + GET)
        assert ast.literal_eval(wire.read_response().body.decode())["client"][1] == 5000


def test_a_trusted_peer_without_one_is_refused(server: Server) -> None:
    for data in (GET, b"PROXY TCP4 a b c d\r\n", SIGNATURE + b"\x31\x11\0\0", b"PROXY" * 30):
        assert is_refused(server.address, data), data
    server.wait_for_log(r"connection from 127\.0\.0\.1:\d+ refused: the PROXY header is missing")
    with server.connect() as wire:
        wire.send(v1() + GET)
        assert wire.read_response().status == 200


def test_a_stranger_has_none(shared: Shared) -> None:
    server = shared(SCOPE, *ON, "--proxy-allow-from", "10.0.0.0/8")
    with server.connect() as wire:
        assert scope_on(wire)["client"] == ("127.0.0.1", wire.socket.getsockname()[1])
    with server.connect() as wire:
        wire.send(v1() + GET)
        assert wire.read_response().status == 400


@pytest.mark.parametrize(("version", "right", "wrong"), [("v1", v1(), v2()), ("v2", v2(), v1())])
def test_one_version_is_one_version(serve: Serve, version: str, right: bytes, wrong: bytes) -> None:
    server = serve(SCOPE, "--proxy-protocol", version)
    assert is_refused(server.address, wrong)
    with server.connect() as wire:
        wire.send(right + GET)
        assert wire.read_response().status == 200


def test_off_means_off(shared: Shared) -> None:
    with shared(SCOPE).connect() as wire:
        wire.send(v1() + GET)
        assert wire.read_response().status == 400


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\0\0\0"])
def test_a_health_check_keeps_its_own_addresses(server: Server, header: bytes) -> None:
    with server.connect() as wire:
        wire.send(header)
        scope = scope_on(wire)
        assert scope["client"] == ("127.0.0.1", wire.socket.getsockname()[1])
        assert scope["server"] == ("127.0.0.1", server.port)


def test_a_header_has_its_time(serve: Serve) -> None:
    server = serve(SCOPE, *ON, "--timeout-request-header", "1")
    assert is_refused(server.address, b"PROXY ")
    server.wait_for_log("refused: it took too long")


def test_a_client_s_encryption_makes_it_https(server: Server) -> None:
    encrypted = b"\x20\0\x05\x01\0\0\0\0"
    with server.connect() as wire:
        wire.send(v2(more=encrypted))
        assert scope_on(wire)["scheme"] == "https"


def test_the_client_of_a_header_cannot_forward(server: Server) -> None:
    fields = (("X-Forwarded-For", "198.51.100.9"), ("X-Forwarded-Proto", "https"))
    with server.connect() as wire:
        wire.send(v1())
        scope = scope_on(wire, fields=fields)
        assert (scope["client"], scope["scheme"]) == (("198.51.100.7", 5000), "http")
    # but a proxy behind it can
    with server.connect() as wire:
        wire.send(v1("127.0.0.1"))
        assert scope_on(wire, fields=fields)["client"] == ("198.51.100.9", 0)


def test_a_unix_socket_may_have_it(serve: Serve, tmp_path: Path) -> None:
    server = serve(SCOPE, "--uds", str(tmp_path / "s"), *ON)
    with server.connect() as wire:
        wire.send(v2())
        scope = scope_on(wire)
        assert scope["client"] == ("198.51.100.7", 5000)
        assert scope["server"] == ("203.0.113.1", 443)
    with server.connect() as wire:
        wire.send(SIGNATURE + b"\x21\x31\0\xd8" + bytes(216))
        scope = scope_on(wire)
        assert (scope["client"], scope["server"][1]) == (None, None)
    assert is_refused(server.address, GET)


def test_tls_comes_behind_it(serve: Serve, tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("localhost").write(tmp_path)
    server = serve(SCOPE, "--ssl-certfile", certificate, "--ssl-keyfile", key, *ON)
    for header in (v1(), v2()):
        plain = socket.create_connection(("127.0.0.1", server.port), WIRE_TIMEOUT)
        # in one segment with the first bytes of the handshake, or not
        plain.sendall(header)
        with authority.client().wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        scope = ast.literal_eval(answer.partition(b"\r\n\r\n")[2].decode())
        assert (scope["client"], scope["scheme"]) == (("198.51.100.7", 5000), "https")
        assert "tls" in scope["extensions"]
    assert is_refused(server.address, b"\x16\x03\x01\0\x05hello")


def test_a_handshake_may_be_in_the_same_segment(serve: Serve, tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("localhost").write(tmp_path)
    server = serve(SCOPE, "--ssl-certfile", certificate, "--ssl-keyfile", key, *ON)
    context = authority.client()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with server.connect() as wire:
        first = v2()
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                wire.send(first + outgoing.read())
                first = b""
                incoming.write(wire.read_some())
        session.write(GET)
        wire.send(outgoing.read())
        answer = b""
        while b"198.51.100.7" not in answer:
            incoming.write(wire.read_some())
            try:
                answer += session.read(65536)
            except ssl.SSLWantReadError:
                continue
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_http_2_comes_behind_it(server: Server) -> None:
    wire = server.connect(timeout=30)
    wire.send(v2())
    with Http2(wire) as client:
        reply = client.ask()
    assert ast.literal_eval(reply.body.decode())["client"] == ("198.51.100.7", 5000)


def test_a_websocket_comes_behind_it(serve: Serve) -> None:
    server = serve(BEHIND, *ON)
    plain = socket.create_connection(("127.0.0.1", server.port), WIRE_TIMEOUT)
    plain.sendall(v1())
    with connect("ws://localhost/talk", sock=plain, proxy=None) as websocket:
        assert json.loads(websocket.recv())["client"] == ["198.51.100.7", 5000]
    server.wait_for_access_line(r'198\.51\.100\.7:5000 - "WebSocket /talk" \[accepted\]')


def test_the_access_log_has_the_client(serve: Serve) -> None:
    server = serve(SCOPE, *ON)
    with Wire(server.address) as wire:
        wire.send(v1() + GET)
        assert wire.read_response().status == 200
    server.wait_for_access_line(r'^INFO: +198\.51\.100\.7:5000 - "GET / HTTP/1\.1" 200 OK$')


def test_a_stop_does_not_wait_for_headers(serve: Serve) -> None:
    server = serve(SCOPE, *ON, "--timeout-graceful-shutdown", "20")
    with server.connect():
        assert server.stop(deadline=15) == 0
