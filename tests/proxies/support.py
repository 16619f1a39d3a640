"""Requests as proxies send them, and the scopes that come of them."""

from __future__ import annotations

import ast
import socket
from typing import Any

from tests.support.server import Server
from tests.support.wire import Address, Wire

SCOPE = "tests.apps.scope:app"
BEHIND = "tests.apps.behind:app"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

Fields = tuple[tuple[str, str], ...]


def v1(source: str = "198.51.100.7", port: int = 5000) -> bytes:
    """Return a PROXY line."""
    family, destination = ("TCP6", "2001:db8::2") if ":" in source else ("TCP4", "203.0.113.1")
    return f"PROXY {family} {source} {destination} {port} 443\r\n".encode()


def v2(source: str = "198.51.100.7", port: int = 5000, more: bytes = b"") -> bytes:
    """Return a binary PROXY header."""
    is_v6 = ":" in source
    family, destination = (
        (socket.AF_INET6, "2001:db8::2") if is_v6 else (socket.AF_INET, "203.0.113.1")
    )
    content = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    content += port.to_bytes(2, "big") + (443).to_bytes(2, "big") + more
    kind = b"\x21\x21" if is_v6 else b"\x21\x11"
    return SIGNATURE + kind + len(content).to_bytes(2, "big") + content


def scope_on(wire: Wire, target: str = "/", fields: Fields = ()) -> dict[str, Any]:
    """Ask for the scope of a request."""
    response = wire.get(target, fields)
    assert response.status == 200, response
    scope: dict[str, Any] = ast.literal_eval(response.body.decode())
    return scope


def scope_of(server: Server, *fields: tuple[str, str], target: str = "/") -> dict[str, Any]:
    """Ask for it on a connection of its own."""
    with server.connect() as wire:
        return scope_on(wire, target, fields)


def is_refused(address: Address, data: bytes) -> bool:
    """Tell whether a server closes a connection without an answer."""
    with Wire(address) as wire:
        wire.send_as_far_as_accepted(data)
        return wire.read_to_end() == b""
