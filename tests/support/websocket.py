"""WebSocket clients: real ones, and one that sends whatever bytes it is told to."""

from __future__ import annotations

import base64
import os
import socket
import struct
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType
from typing import Any, Protocol, Self

from websockets.sync.client import ClientConnection, connect

from tests.support.server import Server
from tests.support.wire import Head, Wire

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
PATIENCE = 30.0


def open_client(server: Server, target: str = "/echo", **options: Any) -> ClientConnection:
    """Connect with `websockets`."""
    options = {"max_size": None, "proxy": None, "open_timeout": PATIENCE} | options
    return connect(f"ws://127.0.0.1:{server.port}{target}", **options)


def handshake(target: str = "/echo", *fields: tuple[str, str], **changes: str | None) -> bytes:
    """Return a handshake; a change replaces a field or, with None, leaves it out."""
    values = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in [*values.items(), *fields] if value is not None]
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode()


def frame(opcode: int, payload: bytes = b"", first: int = FIN, mask: bytes | None = None) -> bytes:
    """Return a client's frame; `first` has the bits beside the opcode."""
    mask = os.urandom(4) if mask is None else mask
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", first | opcode, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", first | opcode, 0xFE, length)
    else:
        head = struct.pack("!BBQ", first | opcode, 0xFF, length)
    if len(payload) > 1000:
        repeated = (mask * (length // 4 + 1))[:length]
        masked = (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(length)
    else:
        masked = bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False))
    return head + mask + masked


@dataclass
class Frame:
    """A frame from the server."""

    first: int
    payload: bytes

    @property
    def opcode(self) -> int:
        """The opcode."""
        return self.first & 0x0F

    @property
    def close_code(self) -> int:
        """The code of a close frame."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2]) if self.payload else 1005


class Connects(Protocol):
    """What a client can connect to."""

    def connect(
        self,
        timeout: float = ...,
        receive_buffer: int | None = ...,
        send_buffer: int | None = ...,
    ) -> Wire:
        """Return a connection."""


class RawWebSocket:
    """A client that is strict about what it reads and careless about what it sends."""

    def __init__(
        self, server: Connects, target: str = "/echo", *fields: tuple[str, str], **options: Any
    ) -> None:
        """Connect and shake hands."""
        self.wire: Wire = server.connect(timeout=PATIENCE, **options)
        # Small frames leave at once.
        self.wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire.send(handshake(target, *fields))
        self.head: Head = self.wire.read_head()
        assert self.head.status == 101, self.head

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hang up."""
        self.wire.close()

    def send(self, opcode: int, payload: bytes = b"", first: int = FIN) -> None:
        """Send one frame."""
        self.wire.send(frame(opcode, payload, first))

    def read(self) -> Frame:
        """Read one frame."""
        first, second = self.wire.read_exactly(2)
        assert second & 0x80 == 0, "a server does not mask"
        assert first & 0x30 == 0, "bits without a meaning"
        length = second
        if second == 126:
            length = int.from_bytes(self.wire.read_exactly(2))
            assert length > 125, "the shortest form"
        elif second == 127:
            length = int.from_bytes(self.wire.read_exactly(8))
            assert length > 65535, "the shortest form"
        return Frame(first, self.wire.read_exactly(length))

    def expect(self, opcode: int, payload: bytes) -> None:
        """Read one frame, which has to be this one, whole and uncompressed."""
        got = self.read()
        assert (got.first, got.payload) == (FIN | opcode, payload)

    def expect_closed(self, code: int) -> None:
        """Read a close frame and the end."""
        assert self.read().close_code == code
        assert self.wire.read_to_end() == b""
