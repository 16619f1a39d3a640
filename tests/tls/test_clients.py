"""Clients' certificates: asked for, verified, shown to the application, revoked."""

from __future__ import annotations

import ast
import contextlib
import ssl
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.certificates import Authority, replace
from tests.support.server import Server
from tests.support.waiting import eventually
from tests.tls.conftest import Connect

ECHO = "tests.apps.echo:app"
SCOPE = "tests.apps.scope:app"


def is_let_in(server: Server, connect: Connect, context: ssl.SSLContext) -> bool:
    # With TLS 1.3 a client learns that its certificate was refused when it first reads.
    try:
        with contextlib.closing(connect(server, context)) as connection:
            connection.ask()
            return True
    except (ssl.SSLError, ConnectionError):
        return False


@pytest.mark.parametrize("reqs", ["required", "optional"])
def test_a_certificate_reaches_the_application(
    serve: Serve,
    connect: Connect,
    authority: Authority,
    certificate: list[str],
    tmp_path: Path,
    reqs: str,
) -> None:
    replace(tmp_path / "ca.pem", authority.pem)
    flags = ["--ssl-ca-certs", str(tmp_path / "ca.pem"), "--ssl-cert-reqs", reqs]
    server = serve(SCOPE, *certificate, *flags)
    client = authority.issue("client.example")
    context = authority.client(client.write(tmp_path, "client"))
    with contextlib.closing(connect(server, context)) as connection:
        tls = ast.literal_eval(connection.ask().decode())["extensions"]["tls"]
    assert tls["client_cert_chain"][0] == client.pem
    assert tls["client_cert_name"] == "CN=client.example,O=Test\\, Inc"
    assert tls["client_cert_error"] is None
    assert is_let_in(server, connect, authority.client()) == (reqs == "optional")
    stranger = Authority().issue("client.example").write(tmp_path, "stranger")
    assert not is_let_in(server, connect, authority.client(stranger))
    server.wait_for_log(r"TLS handshake with 127\.0\.0\.1:\d+ failed: invalid peer certificate")


def test_a_certificate_may_come_with_its_chain(
    serve: Serve, connect: Connect, authority: Authority, certificate: list[str], tmp_path: Path
) -> None:
    replace(tmp_path / "ca.pem", authority.pem)
    flags = ["--ssl-ca-certs", str(tmp_path / "ca.pem"), "--ssl-cert-reqs", "required"]
    server = serve(SCOPE, *certificate, *flags)
    below = Authority(authority)
    client = below.issue("client.example")
    path, key = client.write(tmp_path, "client")
    assert not is_let_in(server, connect, authority.client((path, key)))
    replace(Path(path), client.pem + below.pem)
    context = authority.client((path, key))
    with contextlib.closing(connect(server, context)) as connection:
        tls = ast.literal_eval(connection.ask().decode())["extensions"]["tls"]
    assert tls["client_cert_chain"] == (client.pem, below.pem)


def test_a_revoked_certificate_is_refused_as_soon_as_the_list_says_so(
    serve: Serve, connect: Connect, authority: Authority, certificate: list[str], tmp_path: Path
) -> None:
    good, bad = authority.issue("good"), authority.issue("bad")
    replace(tmp_path / "ca.pem", authority.pem)
    replace(tmp_path / "crl.pem", authority.revocations())
    server = serve(
        ECHO,
        *certificate,
        *["--ssl-ca-certs", str(tmp_path / "ca.pem"), "--ssl-cert-reqs", "2"],
        *["--ssl-crl", str(tmp_path / "crl.pem")],
        workers=2,
    )
    friend = authority.client(good.write(tmp_path, "good"))
    context = authority.client(bad.write(tmp_path, "bad"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with contextlib.closing(connect(server, context)) as connection:
        connection.ask()
        session = connection.sock.session
    replace(tmp_path / "crl.pem", authority.revocations(bad))
    server.wait_for_log("certificates are reloaded", deadline=30)
    eventually(lambda: not is_let_in(server, connect, context), "a refusal", 30)
    assert is_let_in(server, connect, friend)
    # Nor does a ticket from before help.
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        connect(server, context, session=session)
        pytest.fail("a ticket let a revoked client in")
