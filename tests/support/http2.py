"""A client that speaks HTTP/2 on one connection, over the `h2` package.

It shows what came on which stream, and gives room back only when it is told to.
"""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.settings

from tests.support.server import Server
from tests.support.wire import Wire

PATIENCE = 30.0
PING = 6
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Fields = Iterable[tuple[str, str]]


@dataclass
class Reply:
    """What has come on one stream."""

    status: int = 0
    fields: list[tuple[str, str]] = field(default_factory=list)
    content: bytearray = field(default_factory=bytearray)
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self.ended or self.reset is not None

    @property
    def body(self) -> bytes:
        """Return the content."""
        return bytes(self.content)

    def value(self, name: str) -> str | None:
        """Return the only value of a field, or None."""
        values = [value for key, value in self.fields if key == name]
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


class Http2:
    """One client connection."""

    def __init__(
        self,
        server: Server | Wire,
        reads: bool = True,
        window: int | None = None,
        scheme: str = "http",
    ) -> None:
        """Connect; `reads` is whether content is acknowledged, `window` a stream's first one."""
        self.wire = server if isinstance(server, Wire) else server.connect(timeout=PATIENCE)
        self.scheme = scheme
        self.replies: defaultdict[int, Reply] = defaultdict(Reply)
        self.is_closed = False
        self._reads = reads
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        if window is not None:
            code = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
            self.h2.local_settings = h2.settings.Settings(
                client=True, initial_values={code: window, h2.settings.SettingCodes.ENABLE_PUSH: 0}
            )
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> Self:
        """Return the connection."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.wire.close()

    def flush(self) -> None:
        """Send what h2 has to say."""
        if data := self.h2.data_to_send():
            self.wire.send(data)

    def start(
        self,
        path: str = "/",
        method: str = "GET",
        fields: Fields = (),
        body: bytes | None = b"",
        authority: str = "a",
        protocol: str | None = None,
    ) -> int:
        """Send a request; with `body` None its content is still to come. Return the stream.

        `protocol` is that of an extended `CONNECT` (RFC 8441).
        """
        stream = int(self.h2.get_next_available_stream_id())
        pseudo = [(":method", method), (":scheme", self.scheme), (":authority", authority)]
        if protocol is not None:
            pseudo.append((":protocol", protocol))
        self.h2.send_headers(stream, [*pseudo, (":path", path), *fields], end_stream=body == b"")
        self.flush()
        if body:
            self.upload(stream, [body])
        return stream

    def upload(self, stream: int, pieces: Iterable[bytes]) -> None:
        """Send content to its end, as fast as the windows allow."""
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[self.send_some(stream, rest) :]
        self.h2.end_stream(stream)
        self.flush()

    def send_some(self, stream: int, data: memoryview | bytes) -> int:
        """Send as much as the window allows, or read once; return how much has left."""
        window = self.h2.local_flow_control_window(stream)
        size = min(window, self.h2.max_outbound_frame_size, len(data))
        if size <= 0:
            self.step()
            return 0
        self.h2.send_data(stream, bytes(data[:size]))
        self.flush()
        return size

    def ask(self, *args: str, **options: str) -> Reply:
        """Send a request without content and read the whole response."""
        return self.read(self.start(*args, **options))  # type: ignore[arg-type]

    def read(self, stream: int) -> Reply:
        """Read until the stream has ended, one way or the other."""
        return self.until(stream, lambda reply: reply.is_over)

    def until(self, stream: int, reached: object) -> Reply:
        """Read until `reached(reply)` is true."""
        assert callable(reached)
        limit = time.monotonic() + PATIENCE
        while not reached(self.replies[stream]):
            assert not self.is_closed, f"closed: {self.replies[stream]}"
            assert time.monotonic() < limit, f"nothing more came: {self.replies[stream]}"
            self.step()
        return self.replies[stream]

    def frames_to_the_end(self) -> list[tuple[int, int, bytes]]:
        """Return the kind, stream and payload of every frame up to the end of the connection.

        PINGs are answered. h2 itself takes nothing after a GOAWAY, although streams go on.
        """
        frames = []
        while head := self.wire.socket.recv(9, socket.MSG_WAITALL):
            payload = b""
            if length := int.from_bytes(head[:3], "big"):
                payload = self.wire.socket.recv(length, socket.MSG_WAITALL)
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            frames.append((kind, stream, payload))
            if kind == PING and not flags:
                self.wire.send(frame(PING, 1, 0, payload))
        return frames

    def reset(self, stream: int) -> None:
        """Leave a stream."""
        self.h2.reset_stream(stream, 8)
        self.flush()

    def step(self) -> None:
        """Read once, and answer what has to be answered."""
        try:
            data = self.wire.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.is_closed = True
            return
        for event in self.h2.receive_data(data):
            self._note(event)
        if not self.is_closed:
            self.flush()

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.InformationalResponseReceived(stream_id=stream, headers=fields):
                self.replies[stream].interim.append(int(dict(_text(fields))[":status"]))
            case h2.events.ResponseReceived(stream_id=stream, headers=fields):
                reply = self.replies[stream]
                (_, status), *reply.fields = _text(fields)
                reply.status = int(status)
            case h2.events.DataReceived(stream_id=stream, data=data, flow_controlled_length=length):
                self.replies[stream].content += data or b""
                if self._reads and length:
                    self.h2.acknowledge_received_data(length, stream)
            case h2.events.TrailersReceived(stream_id=stream, headers=fields):
                self.replies[stream].trailers = list(_text(fields))
            case h2.events.StreamEnded(stream_id=stream):
                self.replies[stream].ended = True
            case h2.events.StreamReset(stream_id=stream, error_code=code):
                self.replies[stream].reset = int(code or 0)


def _text(fields: Iterable[tuple[bytes | str, bytes | str]] | None) -> Iterator[tuple[str, str]]:
    for name, value in fields or ():
        yield str(name), str(value)


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Return one frame (RFC 9113, section 4.1), whatever sense it makes."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload
