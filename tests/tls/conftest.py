"""An authority, a certificate for the server, and a client that knows bytes and TLS."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.server import Server
from tests.support.wire import WIRE_TIMEOUT


class Secure(http.client.HTTPSConnection):
    """A connection with what its handshake agreed on."""

    sock: ssl.SSLSocket

    def ask(self, path: str = "/", method: str = "GET", body: bytes | None = None) -> bytes:
        """Send a request; return the body of a good response."""
        self.request(method, path, body)
        response = self.getresponse()
        content = response.read()
        assert response.status == 200, content
        return content


Connect = Callable[..., Secure]


@pytest.fixture
def authority() -> Authority:
    """Return an authority that nobody else knows."""
    return Authority()


@pytest.fixture
def certificate(authority: Authority, tmp_path: Path) -> list[str]:
    """Return the flags for a certificate of `localhost`, in `server.crt` and `server.key`."""
    path, key = authority.issue("localhost").write(tmp_path)
    return ["--ssl-certfile", path, "--ssl-keyfile", key]


@pytest.fixture
def connect(authority: Authority) -> Connect:
    """Return what opens a connection and shakes hands."""

    def opened(
        server: Server,
        context: ssl.SSLContext | None = None,
        name: str = "localhost",
        session: ssl.SSLSession | None = None,
    ) -> Secure:
        context = context or authority.client()
        connection = Secure("127.0.0.1", server.port, timeout=WIRE_TIMEOUT)
        plain = _plain(server)
        connection.sock = context.wrap_socket(plain, server_hostname=name, session=session)
        return connection

    return opened


def _plain(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), WIRE_TIMEOUT)
