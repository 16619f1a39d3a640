"""Every kind of listener, plain and encrypted, carries every protocol: one table, one server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.support.certificates import Authority
from tests.support.flavour import rsgi_only
from tests.support.http2 import PATIENCE, Http2
from tests.support.http2_websocket import SocketOverHttp2
from tests.support.server import Server
from tests.support.wire import Address, Wire

pytestmark = rsgi_only("has no such addresses")

APP = "tests.apps.sockets.scenarios:app"
KINDS = ("tcp", "dual stack, IPv4", "dual stack, IPv6", "unix", "inherited")


@dataclass
class Place:
    """Where a listener is, as clients see it."""

    address: Address
    scheme: str
    authority: Authority

    def dial(self) -> socket.socket:
        """Open a connection, not encrypted yet."""
        family = socket.AF_UNIX
        if isinstance(self.address, tuple):
            family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        connected = socket.socket(family, socket.SOCK_STREAM)
        connected.settimeout(PATIENCE)
        connected.connect(self.address)
        return connected

    def open(self, *protocols: str) -> Wire:
        """Open a connection, and agree on one of these protocols if it is encrypted."""
        connected = self.dial()
        if self.scheme == "http":
            return Wire.over(connected)
        context = self.authority.client()
        context.set_alpn_protocols(list(protocols))
        encrypted = context.wrap_socket(connected, server_hostname="localhost")
        assert encrypted.selected_alpn_protocol() == protocols[0]
        return Wire.over(encrypted)


@dataclass
class Places:
    """The listeners of one server."""

    server: Server
    authority: Authority
    addresses: dict[tuple[str, str], Address] = field(default_factory=dict)

    def at(self, kind: str, scheme: str) -> Place:
        """Return one."""
        return Place(self.addresses[kind, scheme], scheme, self.authority)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """Start a server that listens in every way."""
    directory = tmp_path_factory.mktemp("listeners")
    authority = Authority()
    path, key = authority.issue("localhost").write(directory)
    flags = ["--ssl-certfile", path, "--ssl-keyfile", key]
    addresses: dict[tuple[str, str], Address] = {}
    with contextlib.ExitStack() as stack:
        fds = []
        for scheme in ("http", "https"):
            inherited = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            fds.append(inherited.fileno())
            addresses["inherited", scheme] = ("127.0.0.1", inherited.getsockname()[1])
            addresses["unix", scheme] = str(directory / scheme)
            flags += ["--bind", f"{scheme}+fd://{inherited.fileno()}"]
            flags += ["--bind", f"{scheme}+unix:{directory / scheme}"]
            flags += ["--bind", f"{scheme}://127.0.0.1:0", "--bind", f"{scheme}://[::]:0"]
        server = Server(APP, *flags, logs=directory, pass_fds=tuple(fds), allow_tracebacks=False)
        stack.callback(server.destroy)
        server.wait_until_ready()
        known = {address[1] for address in addresses.values() if isinstance(address, tuple)}
        ports = [found[1] for found in server.addresses if isinstance(found, tuple)]
        ports = [port for port in ports if port not in known]
        for number, scheme in enumerate(("http", "https")):
            four, both = ports[2 * number : 2 * number + 2]
            addresses["tcp", scheme] = ("127.0.0.1", four)
            addresses["dual stack, IPv4", scheme] = ("127.0.0.1", both)
            addresses["dual stack, IPv6", scheme] = ("::1", both)
        yield Places(server, authority, addresses)
        assert server.complaints() == []


def over_http1(place: Place) -> dict[str, Any]:
    """Ask over HTTP/1.1."""
    with place.open("http/1.1") as wire:
        return parsed(wire.get("/scope").body)


def over_http2(place: Place) -> dict[str, Any]:
    """Ask over HTTP/2."""
    with Http2(place.open("h2", "http/1.1"), scheme=place.scheme) as client:
        return parsed(client.ask("/scope", authority="localhost").body)


def websocket_over_http1(place: Place) -> dict[str, Any]:
    """Open a WebSocket over HTTP/1.1."""
    is_plain = place.scheme == "http"
    uri = f"{'ws' if is_plain else 'wss'}://localhost/scope"
    context = None if is_plain else place.authority.client()

    # Not the client with threads: over TLS it reads in one and writes in another, and hangs now and
    # then, with uvicorn as well.
    async def ask() -> dict[str, Any]:
        async with connect(uri, sock=place.dial(), ssl=context, proxy=None) as client:
            return parsed(await asyncio.wait_for(client.recv(), PATIENCE))

    return asyncio.run(ask())


def websocket_over_http2(place: Place) -> dict[str, Any]:
    """Open a WebSocket over HTTP/2."""
    with Http2(place.open("h2"), scheme=place.scheme) as client:
        websocket = SocketOverHttp2(client, "/scope")
        scope = parsed(websocket.receive())
        websocket.close()
        return scope


def parsed(text: str | bytes) -> dict[str, Any]:
    """Return a scope that came as JSON."""
    scope: dict[str, Any] = json.loads(text)
    return scope


PROTOCOLS: dict[str, tuple[Callable[[Place], dict[str, Any]], str, str]] = {
    "HTTP/1.1": (over_http1, "http", "1.1"),
    "HTTP/2": (over_http2, "http", "2"),
    "WebSocket over HTTP/1.1": (websocket_over_http1, "websocket", "1.1"),
    "WebSocket over HTTP/2": (websocket_over_http2, "websocket", "2"),
}


@pytest.mark.parametrize(("kind", "scheme"), list(product(KINDS, ("http", "https"))))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_carries_the_protocol(places: Places, kind: str, scheme: str, protocol: str) -> None:
    ask, type_, version = PROTOCOLS[protocol]
    scope = ask(places.at(kind, scheme))
    assert (scope["type"], scope["http_version"]) == (type_, version)
    plain = {"http": "http", "websocket": "ws"}[type_]
    assert scope["scheme"] == (plain if scheme == "http" else plain + "s")
    hosts = {"dual stack, IPv6": "::1", "unix": None}
    client = scope["client"]
    assert (client and client[0]) == hosts.get(kind, "127.0.0.1")
    assert ("tls" in scope["extensions"]) == (scheme == "https")
