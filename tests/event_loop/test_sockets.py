"""`loop.sock_*`, datagram endpoints, and sending files."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import pytest

from .programs import run_within

if TYPE_CHECKING:
    from pathlib import Path

    Loop = asyncio.SelectorEventLoop
    Pair = tuple[socket.socket, socket.socket]

MEGABYTE = 1024 * 1024


def listening() -> socket.socket:
    """Return a non-blocking listener on the loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


def test_connect_accept_send_and_receive(loop: Loop) -> None:
    async def main() -> None:
        with listening() as listener, socket.socket() as client:
            client.setblocking(False)
            accepting = asyncio.create_task(loop.sock_accept(listener))
            await loop.sock_connect(client, listener.getsockname())
            server, address = await accepting
            with server:
                assert address == client.getsockname()
                await loop.sock_sendall(client, b"hello")
                assert await loop.sock_recv(server, 100) == b"hello"
                client.shutdown(socket.SHUT_WR)
                assert await loop.sock_recv(server, 100) == b""

    run_within(loop, main)


def test_sendall_of_much_more_than_the_buffer(loop: Loop, pair: Pair) -> None:
    left, right = pair
    data = os.urandom(8 * MEGABYTE)

    async def receive() -> bytes:
        buffer = bytearray(len(data))
        view, filled = memoryview(buffer), 0
        while filled < len(data):
            filled += await loop.sock_recv_into(right, view[filled:])
        return bytes(buffer)

    async def main() -> None:
        received, _ = await asyncio.gather(receive(), loop.sock_sendall(left, data))
        assert received == data

    run_within(loop, main)


def test_a_cancelled_receive_takes_no_data(loop: Loop, pair: Pair) -> None:
    left, right = pair

    async def main() -> None:
        for number in range(50):
            waiting = asyncio.create_task(loop.sock_recv(left, 100))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            message = str(number).encode()
            await loop.sock_sendall(right, message)
            assert await loop.sock_recv(left, 100) == message

    run_within(loop, main)


def test_receive_and_send_wait_on_one_socket_at_the_same_time(loop: Loop, pair: Pair) -> None:
    left, right = pair
    data = bytes(4 * MEGABYTE)

    async def main() -> None:
        receiving = asyncio.create_task(loop.sock_recv(left, 100))
        sending = asyncio.create_task(loop.sock_sendall(left, data))
        received = 0
        while received < len(data):
            received += len(await loop.sock_recv(right, 65536))
        await sending
        assert not receiving.done()
        await loop.sock_sendall(right, b"answer")
        assert await receiving == b"answer"

    run_within(loop, main)


def test_datagrams_by_sock_recvfrom_and_sock_sendto(loop: Loop) -> None:
    async def main() -> None:
        with (
            socket.socket(type=socket.SOCK_DGRAM) as first,
            socket.socket(type=socket.SOCK_DGRAM) as second,
        ):
            for sock in (first, second):
                sock.setblocking(False)
                sock.bind(("127.0.0.1", 0))
            for number in range(50):
                receiving = asyncio.create_task(loop.sock_recvfrom(second, 100))
                await asyncio.sleep(0)
                message = str(number).encode()
                await loop.sock_sendto(first, message, second.getsockname())
                assert await receiving == (message, first.getsockname())

    run_within(loop, main)


class Datagrams(asyncio.DatagramProtocol):
    """Queues what arrives."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.lost = asyncio.Event()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


def test_udp_endpoints_exchange_datagrams(loop: Loop) -> None:
    async def main() -> None:
        server, server_protocol = await loop.create_datagram_endpoint(
            Datagrams, local_addr=("127.0.0.1", 0)
        )
        address = server.get_extra_info("sockname")
        client, client_protocol = await loop.create_datagram_endpoint(
            Datagrams, remote_addr=address
        )
        for number in range(200):
            message = str(number).encode() * 10
            client.sendto(message)
            data, sender = await server_protocol.received.get()
            assert data == message
            server.sendto(data, sender)
            assert await client_protocol.received.get() == (message, address)
        client.close()
        server.close()
        await client_protocol.lost.wait()
        await server_protocol.lost.wait()

    run_within(loop, main)


def test_an_unreachable_udp_port_is_reported_to_the_protocol(loop: Loop) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = taken.getsockname()

    async def main() -> None:
        client, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
        client.sendto(b"x")
        assert isinstance(await protocol.errors.get(), ConnectionRefusedError)
        client.close()
        await protocol.lost.wait()

    run_within(loop, main)


def test_sendfile_sends_a_file(loop: Loop, tmp_path: Path) -> None:
    data = os.urandom(3 * MEGABYTE)
    path = tmp_path / "file"
    path.write_bytes(data)

    async def main() -> None:
        with listening() as listener, socket.socket() as client:
            client.setblocking(False)
            accepting = asyncio.create_task(loop.sock_accept(listener))
            await loop.sock_connect(client, listener.getsockname())
            server, _ = await accepting
            with server, path.open("rb") as file:
                sending = asyncio.create_task(loop.sock_sendfile(server, file))
                received = bytearray()
                while len(received) < len(data):
                    received += await loop.sock_recv(client, 65536)
                assert await sending == len(data)
                assert received == data

    run_within(loop, main)


def test_happy_eyeballs_finds_the_address_that_answers(loop: Loop) -> None:
    """Several connections are under way at once, and all but one are thrown away."""

    async def main() -> None:
        with listening() as listener:
            port = listener.getsockname()[1]
            _, writer = await asyncio.open_connection("localhost", port, happy_eyeballs_delay=0.01)
            writer.close()
            await writer.wait_closed()

    run_within(loop, main)


def test_getaddrinfo_and_getnameinfo_answer(loop: Loop) -> None:
    async def main() -> None:
        found = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        assert found[0][4] == ("127.0.0.1", 80)
        assert (await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICSERV))[1] == "80"

    run_within(loop, main)
