"""Load: connections that ask without a pause, and count what they lose.

A client as careful as HTTP asks it to be: it keeps its connections alive, opens a new one behind a
response that says `connection: close`, and never sends a request twice. Whatever goes wrong all the
same is the server's loss.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.wire import Address

PATIENCE = 30.0
#: A connection that was idle for longer may be closed: a second is what a drain waits for it.
#: Only a machine that stalls makes a client so late.
LATE = 0.6


@dataclass(frozen=True)
class Loss:
    """A request without an answer."""

    #: The worker that answered before on the same connection, if any did.
    pid: int | None
    began: float
    ended: float
    why: str


class Load:
    """Some connections that send `GET /pid` all the time, from a thread of their own."""

    def __init__(self, address: Address, connections: int, pause: float = 0.0) -> None:
        """Prepare; `pause` is what each connection waits before its next request."""
        assert isinstance(address, tuple)
        self.host, self.port = address
        self.connections = connections
        self.pause = pause
        self.answered = 0
        self.pids: set[int] = set()
        self.losses: list[Loss] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, once the requests under way are answered."""
        self.stop()

    def stop(self) -> None:
        """Finish the requests under way."""
        self._stop.set()
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive(), "the load does not end"

    async def _run(self) -> None:
        await asyncio.gather(*(self._ask() for _ in range(self.connections)))

    async def _ask(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            pid: int | None = None
            answered = began
            try:
                reader, writer = await asyncio.open_connection(self.host, self.port)
            except OSError as error:
                self._lose(None, began, repr(error))
                await asyncio.sleep(0.01)
                continue
            try:
                while not self._stop.is_set():
                    began = time.monotonic()
                    worker, goes_on = await asyncio.wait_for(_request(reader, writer), PATIENCE)
                    self.answered += 1
                    pid, answered = worker, time.monotonic()
                    self.pids.add(worker)
                    if not goes_on:
                        break
                    if self.pause:
                        await asyncio.sleep(self.pause)
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                if pid is None or began - answered < LATE:
                    self._lose(pid, began, repr(error))
            finally:
                writer.close()

    def _lose(self, pid: int | None, began: float, why: str) -> None:
        self.losses.append(Loss(pid, began, time.monotonic(), why))


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bool]:
    writer.write(b"GET /pid HTTP/1.1\r\nHost: load\r\n\r\n")
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200 "):
        raise ValueError(head.splitlines()[0].decode())
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    pid = int(await reader.readexactly(length))
    return pid, b"\r\nconnection: close\r\n" not in head
