"""asyncio's own transports on the loop: TCP, Unix sockets, TLS clients and servers, pipes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .programs import run_within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Loop = asyncio.SelectorEventLoop
    Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MEGABYTE = 1024 * 1024
# Self-signed, for localhost and 127.0.0.1, valid until 2126; for these tests and nothing else.
CERTIFICATE = Path(__file__).parent / "localhost.pem"


def server_tls() -> ssl.SSLContext:
    """Return the server's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def client_tls() -> ssl.SSLContext:
    """Return the client's side, which trusts nothing but the server's certificate."""
    return ssl.create_default_context(cafile=str(CERTIFICATE))


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, int]]:
    """Serve on the loop itself and yield the address."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await server.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close, and wait until it is closed."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def test_fifty_megabytes_go_both_ways_through_streams(loop: Loop) -> None:
    blocks = [os.urandom(MEGABYTE) for _ in range(5)]
    total = 50

    async def send(writer: asyncio.StreamWriter) -> None:
        for number in range(total):
            writer.write(blocks[number % 5])
            await writer.drain()
        writer.write_eof()

    async def receive(reader: asyncio.StreamReader) -> str:
        digest = hashlib.sha256()
        while data := await reader.read(256 * 1024):
            digest.update(data)
        return digest.hexdigest()

    async def main() -> None:
        left, right = socket.socketpair()
        ends = [await asyncio.open_connection(sock=sock) for sock in (left, right)]
        (left_reader, left_writer), (right_reader, right_writer) = ends
        results = await asyncio.gather(
            receive(left_reader), receive(right_reader), send(left_writer), send(right_writer)
        )
        expected = hashlib.sha256()
        for number in range(total):
            expected.update(blocks[number % 5])
        assert [results[0], results[1]] == [expected.hexdigest()] * 2
        await hang_up(left_writer)
        await hang_up(right_writer)

    run_within(loop, main, 50)


def test_two_hundred_connections_echo_at_the_same_time(loop: Loop) -> None:
    async def client(address: tuple[str, int], number: int) -> None:
        reader, writer = await asyncio.open_connection(*address)
        for turn in range(10):
            message = f"{number}/{turn}\n".encode()
            writer.write(message)
            assert await reader.readline() == message
        await hang_up(writer)

    async def main() -> None:
        async with serving(echo) as address:
            await asyncio.gather(*(client(address, number) for number in range(200)))

    run_within(loop, main, 40)


def test_a_client_that_does_not_read_pauses_the_writer(loop: Loop) -> None:
    """Flow control: the writer registration comes, waits and goes."""
    sent = asyncio.Event()
    paused = False

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal paused
        writer.write(bytes(20 * MEGABYTE))
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(writer.drain())), 0.05)
        except TimeoutError:
            paused = True
        await writer.drain()
        sent.set()
        await hang_up(writer)

    async def main() -> None:
        async with serving(flood) as address:
            reader, writer = await asyncio.open_connection(*address)
            async with asyncio.timeout(10):
                while not paused:  # noqa: ASYNC110 - what is awaited is that nothing happens
                    await asyncio.sleep(0.01)
            assert not sent.is_set()
            assert len(await reader.read(-1)) == 20 * MEGABYTE
            await sent.wait()
            await hang_up(writer)

    run_within(loop, main)


def test_a_tls_client_talks_to_a_server_in_a_thread(loop: Loop) -> None:
    """The server is blocking and independent of any loop."""
    listener = socket.create_server(("127.0.0.1", 0))
    payload = os.urandom(2 * MEGABYTE)

    def serve() -> None:
        connection, _ = listener.accept()
        with server_tls().wrap_socket(connection, server_side=True) as secured:
            received = bytearray()
            while len(received) < len(payload):
                received += secured.recv(65536)
            secured.sendall(received)

    thread = threading.Thread(target=serve)
    thread.start()

    async def main() -> None:
        port = listener.getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_tls(), server_hostname="localhost"
        )
        assert writer.get_extra_info("cipher") is not None
        writer.write(payload)
        assert await reader.readexactly(len(payload)) == payload
        await hang_up(writer)

    run_within(loop, main)
    thread.join(10)
    listener.close()


def test_tls_streams_echo_on_one_loop(loop: Loop) -> None:
    async def client(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(
            *address, ssl=client_tls(), server_hostname="localhost"
        )
        for size in (1, 100, 16384, 16385, MEGABYTE):
            block = os.urandom(size)
            writer.write(block)
            assert await reader.readexactly(size) == block
        await hang_up(writer)

    async def main() -> None:
        async with serving(echo, tls=server_tls()) as address:
            await asyncio.gather(*(client(address) for _ in range(10)))

    run_within(loop, main)


def test_a_certificate_nobody_trusts_is_refused(loop: Loop) -> None:
    async def main() -> None:
        async with serving(echo, tls=server_tls()) as address:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(
                    *address, ssl=ssl.create_default_context(), server_hostname="localhost"
                )

    run_within(loop, main)


def test_start_tls_upgrades_a_running_connection(loop: Loop) -> None:
    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"OK\n")
        await writer.drain()
        await writer.start_tls(server_tls())
        writer.write(await reader.readline())
        await writer.drain()
        await hang_up(writer)

    async def main() -> None:
        async with serving(upgrade) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"OK\n"
            await writer.start_tls(client_tls(), server_hostname="localhost")
            writer.write(b"secret\n")
            assert await reader.readline() == b"secret\n"
            await hang_up(writer)

    run_within(loop, main)


def test_unix_streams_echo(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        server = await asyncio.start_unix_server(echo, tmp_path / "socket")
        async with server:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            await hang_up(writer)

    run_within(loop, main)


def test_pipes_are_streams(loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = os.pipe()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
        )
        transport, _ = await loop.connect_write_pipe(
            asyncio.Protocol, os.fdopen(write_end, "wb", 0)
        )
        transport.write(bytes(5 * MEGABYTE))
        assert await reader.readexactly(5 * MEGABYTE) == bytes(5 * MEGABYTE)
        transport.close()
        assert await reader.read() == b""

    run_within(loop, main)


def test_sockets_that_come_and_go_quickly_are_not_confused(loop: Loop) -> None:
    """Numbers are used again all the time; each connection has to get its own answer."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await hang_up(writer)

    async def client(address: tuple[str, int], number: int) -> None:
        for turn in range(30):
            reader, writer = await asyncio.open_connection(*address)
            message = f"{number}/{turn}\n".encode()
            writer.write(message)
            assert await reader.read() == message
            if turn % 3 == 0:
                writer.transport.abort()
            await hang_up(writer)

    async def main() -> None:
        async with serving(one) as address:
            await asyncio.gather(*(client(address, number) for number in range(20)))

    run_within(loop, main, 40)


def test_a_connection_that_is_reset_reports_it(loop: Loop) -> None:
    async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        await hang_up(writer)

    async def main() -> None:
        async with serving(reset) as address:
            reader, writer = await asyncio.open_connection(*address)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            await hang_up(writer)

    run_within(loop, main)
