"""A client that knows only bytes: one connection, strict about framing, in no way helpful.

It never reconnects, retries, normalises or decodes, so that a test sees what the server wrote, and
when.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias

Address: TypeAlias = tuple[str, int] | str

WIRE_TIMEOUT = 10.0


@dataclass
class Head:
    """A status line and header fields, as they came."""

    version: str
    status: int
    reason: str
    headers: list[tuple[bytes, bytes]]

    def values(self, name: bytes) -> list[bytes]:
        """Return all values of a header field, in order; the name in any case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def value(self, name: bytes) -> bytes | None:
        """Return the only value of a header field, or None."""
        values = self.values(name)
        assert len(values) <= 1, f"{name!r} came {len(values)} times: {values}"
        return values[0] if values else None


@dataclass
class Response(Head):
    """One complete response."""

    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    informational: list[Head] = field(default_factory=list)


class Cut(Exception):  # noqa: N818 (it is an event, not always an error)
    """The connection ended where the framing promised more; `received` is what came before."""

    def __init__(self, received: bytes) -> None:
        """Keep what came."""
        super().__init__(f"connection cut after {received[:200]!r}")
        self.received = received


class Wire:
    """One client connection."""

    def __init__(
        self,
        address: Address,
        timeout: float = WIRE_TIMEOUT,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
    ) -> None:
        """Connect; the buffer sizes bound what the kernel may hide from a back-pressure test."""
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if isinstance(address, tuple) and ":" in address[0]:
            family = socket.AF_INET6
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if send_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        try:
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise
        self._pending = bytearray()
        self._seen = bytearray()

    @classmethod
    def over(cls, connected: socket.socket) -> Self:
        """Use a socket that is connected already, encrypted or not."""
        wire = cls.__new__(cls)
        wire.socket = connected
        wire._pending = bytearray()
        wire._seen = bytearray()
        return wire

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    @property
    def name(self) -> str:
        """This client's own address as `host:port`, the way a log shows it."""
        host, port = self.socket.getsockname()[:2]
        return f"{host}:{port}"

    def close(self) -> None:
        """Close in the ordinary way."""
        self.socket.close()

    def reset(self) -> None:
        """Close with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def finish_sending(self) -> None:
        """Say that nothing more will come; go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self.socket.sendall(data)

    def send_as_far_as_accepted(self, data: bytes) -> None:
        """Send `data`; a server that stops reading or hangs up first is fine."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def send_bytewise(self, data: bytes) -> None:
        """Send one byte per segment."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(data)):
            try:
                self.socket.send(data[index : index + 1])
            except (BrokenPipeError, ConnectionResetError):
                return

    def request(
        self,
        target: str = "/",
        method: str = "GET",
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> None:
        """Send a well-formed HTTP/1.1 request."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def get(self, target: str = "/", headers: tuple[tuple[str, str], ...] = ()) -> Response:
        """Send a GET and read its response."""
        self.request(target, headers=headers)
        return self.read_response()

    def is_readable(self, within: float) -> bool:
        """Tell whether bytes or the end of the stream arrive in time."""
        return bool(self._pending) or bool(select.select([self.socket], [], [], within)[0])

    def is_writable(self, within: float) -> bool:
        """Tell whether the kernel takes more bytes in time."""
        return bool(select.select([], [self.socket], [], within)[1])

    def read_some(self) -> bytes:
        """Return the next bytes, `b""` at the end of the stream."""
        if self._pending:
            data = bytes(self._pending)
            self._pending.clear()
            return data
        return self._receive()

    def read_exactly(self, count: int) -> bytes:
        """Read so many bytes."""
        return self._exactly(count)

    def read_to_end(self) -> bytes:
        """Return everything up to the end of the stream, however it ended."""
        parts = []
        while data := self.read_some():
            parts.append(data)
        return b"".join(parts)

    def read_head(self) -> Head:
        """Read one status line with its header fields."""
        version, status, reason = [*self._line().decode("latin-1").split(" ", 2), "", ""][:3]
        assert version in ("HTTP/1.0", "HTTP/1.1"), f"not a status line: {version!r}"
        return Head(version, int(status), reason, self._fields())

    def read_response(self, method: str = "GET") -> Response:
        """Read one final response and the informational ones before it."""
        informational = []
        head = self.read_head()
        while head.status < 200:
            informational.append(head)
            head = self.read_head()
        response = Response(**vars(head), informational=informational)
        self._read_body(response, method)
        return response

    def read_chunk(self) -> bytes:
        """Read one chunk of a chunked body; `b""` is the last one (its trailers are not read)."""
        size = int(self._line().partition(b";")[0], 16)
        data = self._exactly(size)
        if size:
            assert self._line() == b"", "a chunk ends with CRLF"
        return data

    def read_trailers(self) -> list[tuple[bytes, bytes]]:
        """Read the trailer section, which follows the last chunk."""
        return self._fields()

    def assert_closed(self, within: float = WIRE_TIMEOUT) -> None:
        """Fail unless the server closes this connection, sending nothing more."""
        assert self.is_readable(within), f"the server did not close within {within} s"
        rest = self.read_some()
        assert rest == b"", f"bytes instead of the end of the stream: {rest[:200]!r}"

    def _read_body(self, response: Response, method: str) -> None:
        encodings = response.values(b"transfer-encoding")
        length = response.value(b"content-length")
        if method == "HEAD" or response.status in (204, 304):
            return
        if encodings:
            assert encodings == [b"chunked"], encodings
            assert length is None, "content-length beside transfer-encoding"
            while chunk := self.read_chunk():
                response.chunks.append(chunk)
            response.trailers = self.read_trailers()
            response.body = b"".join(response.chunks)
        elif length is not None:
            response.body = self._exactly(int(length))
        else:
            response.body = self.read_to_end()

    def _receive(self) -> bytes:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return b""
        self._seen += data
        del self._seen[:-65536]
        return data

    def _fill(self) -> None:
        data = self._receive()
        if not data:
            raise Cut(bytes(self._seen))
        self._pending += data

    def _line(self) -> bytes:
        while (end := self._pending.find(b"\r\n")) < 0:
            self._fill()
        line = bytes(self._pending[:end])
        assert b"\n" not in line, f"bare LF in {line!r}"
        del self._pending[: end + 2]
        return line

    def _fields(self) -> list[tuple[bytes, bytes]]:
        fields = []
        while line := self._line():
            name, colon, value = line.partition(b":")
            assert colon, f"header line without a colon: {line!r}"
            fields.append((name, value.strip(b" \t")))
        return fields

    def _exactly(self, count: int) -> bytes:
        while len(self._pending) < count:
            self._fill()
        data = bytes(self._pending[:count])
        del self._pending[:count]
        return data


def seconds_since(start: float) -> float:
    """Return the time since `start`, a value of `time.monotonic()`."""
    return time.monotonic() - start
