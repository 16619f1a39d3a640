"""A WebSocket over one stream of an HTTP/2 connection (RFC 8441), over `h2` and `wsproto`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.support.http2 import Http2, Reply


class SocketOverHttp2:
    """One WebSocket; the connection may have others, and requests."""

    def __init__(
        self, client: Http2, target: str = "/echo", *fields: tuple[str, str], deflate: bool = False
    ) -> None:
        """Ask for it, and read the answer."""
        self.client = client
        while not client.h2.remote_settings.enable_connect_protocol:
            client.step()
        extension = PerMessageDeflate()
        own = [("sec-websocket-version", "13"), *fields]
        if deflate:
            offer = str(extension.offer())
            own.append(("sec-websocket-extensions", f"permessage-deflate; {offer}"))
        self.stream = client.start(target, "CONNECT", own, body=None, protocol="websocket")
        self.answer = client.until(self.stream, lambda reply: reply.status != 0 or reply.is_over)
        accepted = self.answer.value("sec-websocket-extensions")
        if accepted is not None:
            extension.finalize(accepted)
        self.is_compressed = accepted is not None
        self._frames = Connection(ConnectionType.CLIENT, [extension] if accepted else [])
        self._events: deque[Event] = deque()
        self._taken = 0

    @property
    def reply(self) -> Reply:
        """What has come on the stream."""
        return self.client.replies[self.stream]

    def send(self, message: str | bytes) -> None:
        """Send a whole message."""
        if isinstance(message, str):
            self._send(TextMessage(message))
        else:
            self._send(BytesMessage(message))

    def close(self, code: int = 1000, reason: str = "") -> CloseConnection:
        """Close, and return what the server answers."""
        self._send(CloseConnection(code, reason))
        event = self.receive_event()
        assert isinstance(event, CloseConnection), event
        return event

    def receive(self) -> str | bytes:
        """Return the next message."""
        text, data = "", b""
        while True:
            match self.receive_event():
                case TextMessage(data=part, message_finished=finished):
                    text += part
                    if finished:
                        return text
                case BytesMessage(data=part, message_finished=finished):
                    data += bytes(part)
                    if finished:
                        return data
                case event:
                    raise AssertionError(event)

    def receive_event(self) -> Event:
        """Return the next event; pings are answered on the way."""
        while True:
            for event in self._new_events():
                if isinstance(event, Ping):
                    self._send(event.response())
                else:
                    self._events.append(event)
            if self._events:
                return self._events.popleft()
            assert not self.reply.is_over, f"the stream has ended: {self.reply}"
            self.client.step()

    def _new_events(self) -> Iterator[Event]:
        content = self.reply.content
        if len(content) > self._taken:
            self._frames.receive_data(bytes(content[self._taken :]))
            self._taken = len(content)
        yield from self._frames.events()

    def _send(self, event: Event) -> None:
        rest = self._frames.send(event)
        while rest:
            rest = rest[self.client.send_some(self.stream, rest) :]
