"""What a client sees of an encrypted connection, whatever it runs over."""

from __future__ import annotations

import ast
import contextlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.conftest import Serve
from tests.support.certificates import Authority
from tests.support.server import ROOT
from tests.support.waiting import eventually
from tests.support.wire import Address, Wire
from tests.tls.conftest import Connect

ECHO = "tests.apps.echo:app"
SCOPE = "tests.apps.scope:app"


def scope_of(content: bytes) -> dict[str, Any]:
    scope: dict[str, Any] = ast.literal_eval(content.decode())
    return scope


def test_the_scope_says_https_and_how(
    serve: Serve, connect: Connect, authority: Authority, certificate: list[str]
) -> None:
    server = serve(SCOPE, *certificate)
    assert f"running on https://127.0.0.1:{server.port} " in server.stderr()
    with contextlib.closing(connect(server)) as connection:
        scope = scope_of(connection.ask())
    assert scope["scheme"] == "https"
    tls = scope["extensions"]["tls"]
    assert tls["server_cert"] == Path(certificate[1]).read_text()
    assert tls["tls_version"] == 0x0304
    assert tls["cipher_suite"] in {0x1301, 0x1302, 0x1303}
    assert (tls["client_cert_chain"], tls["client_cert_name"]) == ((), None)
    assert tls["client_cert_error"] is None


def test_a_plain_scope_knows_no_tls(serve: Serve) -> None:
    assert "tls" not in scope_of(serve(SCOPE).get("/").content)["extensions"]


@pytest.mark.parametrize("size", [0, 1, 16_384, 3_000_000])
def test_bodies_of_any_size_come_back(
    serve: Serve, authority: Authority, certificate: list[str], size: int
) -> None:
    server = serve(ECHO, *certificate)
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with httpx.Client(verify=authority.client(), trust_env=False, timeout=30) as client:
        for _ in range(2):
            response = client.post(f"https://127.0.0.1:{server.port}/", content=body)
            assert response.content == body


def test_a_slow_reader_gets_it_all(
    serve: Serve, authority: Authority, certificate: list[str]
) -> None:
    server = serve(ECHO, *certificate, "--timeout-keep-alive", "300")
    size = 8_000_000
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        plain.settimeout(30)
        plain.connect(("127.0.0.1", server.port))
        with authority.client().wrap_socket(plain, server_hostname="localhost") as client:
            head = f"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n"
            client.sendall(head.encode() + b"x" * size)
            received = client.recv(65536)
            left = size - len(received.partition(b"\r\n\r\n")[2])
            while left > 0:
                data = client.recv(65536)
                assert data, f"{left} bytes are missing"
                left -= len(data)


def test_http1_is_agreed_on(
    serve: Serve, connect: Connect, authority: Authority, certificate: list[str]
) -> None:
    server = serve(ECHO, *certificate)
    context = authority.client()
    context.set_alpn_protocols(["spdy/1", "http/1.1"])
    with contextlib.closing(connect(server, context)) as connection:
        assert connection.sock.selected_alpn_protocol() == "http/1.1"
        connection.ask()


@pytest.mark.parametrize("scheme", ["https+unix", "https+fd"])
def test_other_sockets_are_encrypted_too(
    serve: Serve, authority: Authority, certificate: list[str], tmp_path: Path, scheme: str
) -> None:
    path = str(tmp_path / "s")
    with contextlib.ExitStack() as stack:
        if scheme == "https+unix":
            server = serve(SCOPE, *certificate, "--bind", f"unix:{path}")
        else:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen()
            fd = listener.fileno()
            server = serve(SCOPE, *certificate, "--bind", f"https+fd://{fd}", pass_fds=(fd,))
        assert f"running on https+unix:{path}" in server.stderr()
        transport = httpx.HTTPTransport(uds=path, verify=authority.client())
        client = stack.enter_context(httpx.Client(transport=transport, trust_env=False))
        assert scope_of(client.get("https://localhost/").content)["scheme"] == "https"


def test_closing_says_so(
    serve: Serve, connect: Connect, certificate: list[str], authority: Authority
) -> None:
    server = serve(ECHO, *certificate)
    context = authority.client()
    # An end without `close_notify` is an error for this client.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    with contextlib.closing(connect(server, context)) as connection:
        connection.sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        received = b""
        while data := connection.sock.recv(65536):
            received += data
    assert received.startswith(b"HTTP/1.1 200")


def test_a_client_that_forgot_the_s_is_told(serve: Serve, certificate: list[str]) -> None:
    server = serve(ECHO, *certificate)
    with Wire(server.address) as wire:
        response = wire.get("/")
    assert response.status == 400
    assert b"https://" in response.body
    server.wait_for_log(r"TLS handshake with 127\.0\.0\.1:\d+ failed: it does not speak TLS")


def test_a_slow_handshake_is_given_up(serve: Serve, certificate: list[str]) -> None:
    server = serve(ECHO, *certificate, "--ssl-handshake-timeout", "0.3")
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(b"\x16\x03\x01")
        assert client.recv(100) == b""
    server.wait_for_log("failed: it took too long")


def test_garbage_and_scans_do_no_harm(
    serve: Serve, connect: Connect, certificate: list[str]
) -> None:
    server = serve(ECHO, *certificate)
    for garbage in [b"", b"\x00" * 100, b"\x16\x03\x01\x00\x05hello", b"\x16" * 70_000]:
        with socket.create_connection(("127.0.0.1", server.port), 30) as client:
            # Refused before all of it has been sent, perhaps: a reset, or no connection any more.
            with contextlib.suppress(OSError):
                client.sendall(garbage)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
    with contextlib.closing(connect(server)) as connection:
        connection.ask()
    assert server.stderr().count("TLS handshake") == 3


def test_a_version_can_be_required(
    serve: Serve, connect: Connect, authority: Authority, certificate: list[str]
) -> None:
    old = authority.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    server = serve(ECHO, *certificate, "--ssl-version", "TLSv1.3")
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        connect(server, old)
    server = serve(ECHO, *certificate, "--ssl-version", "17")
    with contextlib.closing(connect(server, old)) as connection:
        assert connection.sock.version() == "TLSv1.2"


def test_cipher_suites_are_chosen(
    serve: Serve, connect: Connect, authority: Authority, certificate: list[str]
) -> None:
    name = "ECDHE-ECDSA-CHACHA20-POLY1305"
    server = serve(ECHO, *certificate, "--ssl-ciphers", name)
    old = authority.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with contextlib.closing(connect(server, old)) as connection:
        assert connection.sock.cipher() == (name, "TLSv1.2", 256)


def test_a_name_chooses_the_certificate(
    serve: Serve, connect: Connect, authority: Authority, tmp_path: Path
) -> None:
    flags: list[str] = []
    for name in ["first.example", "*.second.example"]:
        path, key = authority.issue(name).write(tmp_path, name.strip("*."))
        flags += ["--ssl-certfile", path, "--ssl-keyfile", key]
    server = serve(SCOPE, *flags)
    for asked, expected in [
        ("first.example", "first.example"),
        ("a.second.example", "second.example"),
        ("127.0.0.1", "first.example"),
    ]:
        with contextlib.closing(connect(server, name=asked)) as connection:
            tls = scope_of(connection.ask())["extensions"]["tls"]
        assert tls["server_cert"] == (tmp_path / f"{expected}.crt").read_text()


@pytest.mark.parametrize("form", ["pkcs8", "traditional", "encrypted", "one file"])
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_keys_come_in_every_form(
    serve: Serve, connect: Connect, authority: Authority, tmp_path: Path, form: str, kind: str
) -> None:
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else None
    issued = authority.issue("localhost", key=key)
    path, key_path = tmp_path / "c.pem", tmp_path / "k.pem"
    flags, env = ["--ssl-certfile", str(path)], {}
    if form == "one file":
        path.write_text(issued.key_pem() + issued.pem)
    else:
        path.write_text(issued.pem)
        password = "hunter2" if form == "encrypted" else None
        key_path.write_text(
            issued.key_pem("traditional" if form == "traditional" else "pkcs8", password)
        )
        flags += ["--ssl-keyfile", str(key_path)]
        env = {"RSGI_SSL_KEYFILE_PASSWORD": password} if password else {}
    server = serve(ECHO, *flags, env=env, allow_tracebacks=False)
    with contextlib.closing(connect(server)) as connection:
        connection.ask()
    assert "hunter2" not in server.stderr()


def test_the_chain_is_sent_with_the_certificate(
    serve: Serve, connect: Connect, authority: Authority, tmp_path: Path
) -> None:
    below = Authority(authority)
    issued = below.issue("localhost")
    path, key = issued.write(tmp_path)
    flags = ["--ssl-certfile", path, "--ssl-keyfile", key]
    # The client knows the authority above only.
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(serve(ECHO, *flags))
    Path(path).write_text(issued.pem + below.pem)
    with contextlib.closing(connect(serve(ECHO, *flags))) as connection:
        connection.ask()


def test_rsgi_run_speaks_tls(authority: Authority, tmp_path: Path, serve: Serve) -> None:
    path, key = authority.issue("localhost").write(tmp_path)
    program = (
        "import rsgi; from tests.apps.echo import app;"
        f"rsgi.run(app, ssl_certfile={path!r}, ssl_keyfile={key!r}, port=0)"
    )
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-c", program], stderr=stderr, cwd=ROOT)
    try:
        text = eventually(
            lambda: log.read_text() if "startup complete" in log.read_text() else "", "start", 30
        )
        url = text[text.index("https://") :].split()[0]
        with httpx.Client(verify=authority.client(), trust_env=False) as client:
            assert client.get(url).status_code == 200
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize(
    ("mistake", "expected"),
    [
        ("missing", "cannot read the file"),
        ("no password", "is encrypted, set its password"),
        ("wrong password", "cannot be decrypted, check its password"),
        ("old form", "openssl pkcs8 -topk8"),
        ("other key", "do not belong together"),
        ("no certificate", "holds no certificate"),
        ("no key", "holds no private key"),
        ("ciphers", "cipher suites unknown or not supported: `AES128-SHA`"),
    ],
)
def test_a_mistake_ends_the_start_with_a_reason(
    serve: Serve, authority: Authority, tmp_path: Path, mistake: str, expected: str
) -> None:
    issued = authority.issue("localhost")
    path, key = issued.write(tmp_path)
    flags: list[str] = []
    if mistake == "missing":
        path = str(tmp_path / "nothing")
    elif mistake in {"no password", "wrong password"}:
        Path(key).write_text(issued.key_pem(password="right"))
        flags = ["--ssl-keyfile-password", "hunter2"] if mistake == "wrong password" else []
    elif mistake == "old form":
        Path(key).write_text(issued.key_pem("traditional", "right"))
    elif mistake == "other key":
        Path(key).write_text(authority.issue("localhost").key_pem())
    elif mistake == "no certificate":
        Path(path).write_text(issued.key_pem())
    elif mistake == "no key":
        Path(key).write_text(issued.pem)
    elif mistake == "ciphers":
        flags = ["--ssl-ciphers", "AES128-SHA"]
    server = serve(ECHO, "--ssl-certfile", path, "--ssl-keyfile", key, *flags, ready=False)
    assert server.wait(30) == 3
    assert expected in server.stderr()
    assert "hunter2" not in server.stderr()


def status_and_location(address: Address, request: bytes) -> tuple[int, bytes | None]:
    with Wire(address) as wire:
        wire.send(request)
        response = wire.read_response()
        return response.status, response.value(b"location")


def test_plain_listeners_send_clients_to_the_encrypted_one(
    serve: Serve, connect: Connect, certificate: list[str]
) -> None:
    binds = ["--bind", "https://127.0.0.1:0", "--bind", "http://127.0.0.1:0"]
    server = serve(ECHO, *certificate, *binds, "--redirect-https")
    plain = server.addresses[1]
    head = f"/a?b=c HTTP/1.1\r\nhost: localhost:{plain[1]}\r\n".encode()
    place = f"https://localhost:{server.port}/a?b=c".encode()
    get = b"GET " + head + b"\r\n"
    post = b"POST " + head + b"content-length: 1\r\n\r\nx"
    assert status_and_location(plain, get) == (301, place)
    assert status_and_location(plain, post) == (308, place)
    with httpx.Client(http1=False, http2=True) as client:
        response = client.get(f"http://127.0.0.1:{plain[1]}/a", headers={"host": "localhost"})
    assert response.http_version == "HTTP/2"
    assert response.status_code == 301
    with contextlib.closing(connect(server)) as connection:
        connection.ask()


def test_plain_and_encrypted_listeners_live_side_by_side(
    serve: Serve, connect: Connect, certificate: list[str]
) -> None:
    binds = ["--bind", "127.0.0.1:0", "--bind", "http://127.0.0.1:0"]
    server = serve(ECHO, *certificate, *binds)
    with Wire(server.addresses[1]) as wire:
        assert wire.get("/").status == 200
    with contextlib.closing(connect(server)) as connection:
        connection.ask()


def test_idle_connections_take_little_memory(
    serve: Serve,
    connect: Connect,
    certificate: list[str],
    record_property: Callable[[str, object], None],
) -> None:
    count = 300
    server = serve(ECHO, *certificate, "--timeout-keep-alive", "300")
    with contextlib.ExitStack() as stack:

        def opened(number: int) -> None:
            for _ in range(number):
                connection = stack.enter_context(contextlib.closing(connect(server)))
                connection.ask()

        # What the first ones need is not theirs alone.
        opened(50)
        before = server.memory()
        opened(count)
        each = (server.memory() - before) / count
    record_property("bytes_per_idle_connection", each)
    # About 11 KiB are usual; the buffers of a busy connection would be several times as much.
    assert each < 100 * 1024, f"{each / 1024:.1f} KiB"
