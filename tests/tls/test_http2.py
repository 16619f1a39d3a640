"""HTTP/2 by ALPN, through clients that others have written."""

from __future__ import annotations

import ast
import contextlib
import re
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.support.certificates import Authority, replace
from tests.support.http2 import PATIENCE, PREFACE, Http2, frame
from tests.support.http2_floods import (
    DATA,
    END_HEADERS,
    GET,
    HEADERS,
    MEBIBYTE,
    NOISE,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    endless_head,
    endure,
    pings,
    resets,
    settings,
)
from tests.support.http2_websocket import SocketOverHttp2
from tests.support.programs import curl_with_http2, run, tool
from tests.support.server import Server
from tests.support.waiting import eventually
from tests.support.wire import Cut, Wire

ECHO = "tests.apps.echo:app"
SCOPE = "tests.apps.scope:app"
SENDING = "tests.apps.sending:app"

Opened = Callable[..., Http2]


@pytest.fixture
def opened(authority: Authority) -> Opened:
    """Return what opens an HTTP/2 connection over TLS."""

    def open_one(
        server: Server, context: ssl.SSLContext | None = None, reads: bool = True
    ) -> Http2:
        return Http2(
            Wire.over(encrypted(server, context or authority.client())), reads, None, "https"
        )

    return open_one


def encrypted(server: Server, context: ssl.SSLContext, *protocols: str) -> ssl.SSLSocket:
    """Open a connection that agrees on one of these protocols, or on HTTP/2."""
    context.set_alpn_protocols(list(protocols or ("h2",)))
    plain = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    return context.wrap_socket(plain, server_hostname="localhost")


def test_the_scope_says_so(
    serve: Serve, opened: Opened, authority: Authority, certificate: list[str], tmp_path: Path
) -> None:
    replace(tmp_path / "ca.pem", authority.pem)
    flags = ["--ssl-ca-certs", str(tmp_path / "ca.pem"), "--ssl-cert-reqs", "required"]
    server = serve(SCOPE, *certificate, *flags)
    issued = authority.issue("client.example")
    context = authority.client(issued.write(tmp_path, "client"))
    with opened(server, context) as client:
        # The connection decides, whatever the client says.
        client.scheme = "http"
        scope = ast.literal_eval(client.ask("/").body.decode())
    assert (scope["http_version"], scope["scheme"]) == ("2", "https")
    tls = scope["extensions"]["tls"]
    assert tls["tls_version"] == 0x0304
    assert tls["client_cert_chain"][0] == issued.pem
    assert "http.response.trailers" in scope["extensions"]


def test_httpx_gets_and_posts(serve: Serve, authority: Authority, certificate: list[str]) -> None:
    server = serve(ECHO, *certificate)
    body = bytes(range(256)) * 8192
    context = authority.client()
    with httpx.Client(http2=True, verify=context, trust_env=False, timeout=PATIENCE) as client:
        for content in (b"", b"x", body):
            response = client.post(f"https://127.0.0.1:{server.port}/", content=content)
            assert (response.http_version, response.content) == ("HTTP/2", content)


def test_curl_chooses_http2(
    serve: Serve, authority: Authority, certificate: list[str], tmp_path: Path
) -> None:
    curl = curl_with_http2()
    replace(tmp_path / "ca.pem", authority.pem)
    server = serve(SENDING, *certificate)
    command = [curl, "-sS", "--cacert", str(tmp_path / "ca.pem"), "-w", "%{http_version}"]
    url = f"https://127.0.0.1:{server.port}/chunks"
    for flag, version in [("--http2", "2"), ("--http1.1", "1.1")]:
        assert run(*command, flag, url) == f"hello world{version}"


@pytest.mark.parametrize("offered", ["h2", "http/1.1", "h2,http/1.1", "http/1.1,h2"])
def test_openssl_agrees_on_it(
    serve: Serve, certificate: list[str], authority: Authority, tmp_path: Path, offered: str
) -> None:
    server = serve(ECHO, *certificate)
    replace(tmp_path / "ca.pem", authority.pem)
    said = run(
        *(tool("openssl"), "s_client", "-connect", f"127.0.0.1:{server.port}", "-alpn", offered),
        *("-CAfile", str(tmp_path / "ca.pem"), "-verify_return_error"),
    )
    expected = "h2" if "h2" in offered else "http/1.1"
    assert f"ALPN protocol: {expected}" in said


def test_h2load_gets_every_answer(serve: Serve, certificate: list[str]) -> None:
    h2load = tool("h2load")
    server = serve(SENDING, *certificate, "--no-access-log")
    load = ["-n", "4000", "-c", "8", "-m", "100"]
    said = run(h2load, *load, f"https://127.0.0.1:{server.port}/length")
    assert "Application protocol: h2" in said
    assert re.search(r"4000 succeeded, 0 failed, 0 errored", said), said


VERSIONS = {
    "auto": (["h2", "http/1.1"], ["h2", "http/1.1"]),
    "1": (["http/1.1", "http/1.1"], ["http/1.1"]),
    "2": (["h2", "h2"], ["h2"]),
}


@pytest.mark.parametrize("versions", VERSIONS)
def test_versions_can_be_chosen(
    serve: Serve, authority: Authority, certificate: list[str], versions: str
) -> None:
    binds = ["--bind", "https://127.0.0.1:0", "--bind", "http://127.0.0.1:0"]
    server = serve(SENDING, *certificate, *binds, "--http", versions)
    _, spoken = VERSIONS[versions]
    for protocol in ("h2", "http/1.1"):
        if protocol not in spoken:
            with pytest.raises(ssl.SSLError, match=r"(?i)application.protocol"):
                encrypted(server, authority.client(), protocol).recv(1)
            continue
        with encrypted(server, authority.client(), protocol) as agreed:
            assert agreed.selected_alpn_protocol() == protocol
    plain = server.addresses[1]
    with Wire(plain) as wire:
        wire.request("/length")
        assert wire.read_response().status == (505 if versions == "2" else 200)
    with Wire(plain) as wire:
        if versions == "1":
            wire.send(PREFACE)
            assert wire.read_response().status in {400, 505}
        else:
            assert Http2(wire).ask("/length").body == b"hello"


def test_what_was_agreed_on_counts(
    serve: Serve, authority: Authority, certificate: list[str]
) -> None:
    server = serve(SENDING, *certificate)
    with encrypted(server, authority.client(), "http/1.1") as agreed:
        wire = Wire.over(agreed)
        wire.send(PREFACE + frame(SETTINGS))
        assert wire.read_response().status in {400, 505}
    with encrypted(server, authority.client(), "h2") as agreed:
        agreed.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1" not in Wire.over(agreed).read_to_end()


def test_a_websocket_and_requests_share_a_connection(
    serve: Serve, opened: Opened, certificate: list[str], key: str
) -> None:
    server = serve("tests.apps.sockets.scenarios:app", *certificate)
    with opened(server) as client:
        first = SocketOverHttp2(client, f"/echo?{key}", deflate=True)
        second = SocketOverHttp2(client, "/echo")
        assert (first.is_compressed, second.is_compressed) == (True, False)
        assert client.ask("/").body == b"http"
        text = "\u017elu\u0165ou\u010dk\u00fd" * 10_000
        for message in ("short", text, bytes(100_000), b"", ""):
            first.send(message)
            second.send(message)
            assert first.receive() == message
            assert second.receive() == message
        assert (first.close(4001, "bye").code, second.close().code) == (4001, 1000)
        assert client.read(first.stream).reset is None
        journal = f"/journal?{key}"
        eventually(lambda: b"disconnect 4001 bye" in client.ask(journal).body, "the end")


def test_a_new_certificate_is_for_new_connections(
    serve: Serve, opened: Opened, authority: Authority, certificate: list[str], tmp_path: Path
) -> None:
    server = serve(ECHO, *certificate)
    errors: list[BaseException] = []
    stopped = threading.Event()

    def load() -> None:
        try:
            with opened(server) as client:
                while not stopped.is_set():
                    streams = [client.start("/", "POST", body=b"x" * 100) for _ in range(20)]
                    assert all(client.read(stream).body == b"x" * 100 for stream in streams)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        new = authority.issue("localhost")
        new.write(tmp_path)

        def is_new() -> bool:
            with encrypted(server, authority.client()) as agreed:
                shown = agreed.getpeercert(binary_form=True)
            return shown is not None and ssl.DER_cert_to_PEM_cert(shown).strip() == new.pem.strip()

        eventually(is_new, "the new certificate", PATIENCE)
    finally:
        stopped.set()
        thread.join(PATIENCE)
    assert errors == []


def test_a_stop_loses_no_response(
    serve: Serve, authority: Authority, certificate: list[str]
) -> None:
    server = serve(SENDING, *certificate)
    context = authority.client()
    # An end without `close_notify` is an error for this client.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    with encrypted(server, context) as agreed:
        wire = Wire.over(agreed)
        get = b"\x82\x87\x04\x04/big\x41\x01a"
        # Every window is open.
        wire.send(PREFACE + frame(SETTINGS, payload=b"\x00\x04\x7f\xff\xff\xff"))
        wire.send(frame(WINDOW_UPDATE, payload=b"\x7f\xff\x00\x00") + frame(HEADERS, 5, 1, get))
        received, has_ended = 0, False
        with contextlib.suppress(Cut):
            while True:
                head = wire.read_exactly(9)
                payload = wire.read_exactly(int.from_bytes(head[:3]))
                if head[3] == DATA:
                    if not received:
                        server.signal(signal.SIGTERM)
                    received += len(payload)
                    has_ended |= head[4] & 1 == 1
                # It goes on sending while the server closes behind its last byte.
                is_ping = head[3] == PING and head[4] == 0
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    wire.send(
                        frame(PING, 1, 0, payload) if is_ping else frame(PING, 1, 0, bytes(8))
                    )
        assert (has_ended, received) == (True, 64 * MEBIBYTE)
    assert server.wait(PATIENCE) == 0


def websocket_resets() -> bytes:
    # `:method`, `:path`, `:scheme`, `:authority`, `:protocol` and the version.
    head = b"\x02\x07CONNECT\x04\x05/echo\x87\x41\x01a\x00\x09:protocol\x09websocket"
    head += b"\x00\x15sec-websocket-version\x0213"
    return resets(head, END_HEADERS)


FLOODS: dict[str, Callable[[], bytes]] = {
    "rapid resets": lambda: resets(GET["https"]),
    "WebSockets that are reset": websocket_resets,
    "an endless head": lambda: endless_head(GET["https"]),
    "pings": pings,
    "settings": settings,
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_costs_little_and_others_are_served(
    serve: Serve, opened: Opened, authority: Authority, certificate: list[str], kind: str
) -> None:
    server = serve("tests.apps.sockets.scenarios:app", *certificate, "--no-access-log")
    connect = [lambda: encrypted(server, authority.client())] * 3
    with opened(server) as honest:
        endure(server, honest, ("/", b"http"), connect, FLOODS[kind]())


def test_slow_readers_hold_little(serve: Serve, opened: Opened, certificate: list[str]) -> None:
    server = serve(SENDING, *certificate, "--no-access-log")
    with opened(server) as honest, contextlib.ExitStack() as stack:
        assert honest.ask("/length").body == b"hello"
        before = server.memory()
        for _ in range(3):
            stuck = stack.enter_context(opened(server, reads=False))
            streams = [stuck.start("/big") for _ in range(5)]
            stuck.until(streams[-1], lambda reply: reply.status == 200)
        assert honest.ask("/length").body == b"hello"
        # For each stream 64 KiB in the stack, 64 KiB in the exchange, and one message.
        assert server.memory() - before < NOISE + 15 * MEBIBYTE
