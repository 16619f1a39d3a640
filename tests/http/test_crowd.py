"""Many clients that connect at once to a worker that has its hands full."""

from __future__ import annotations

import selectors
import socket
import time

from tests.conftest import Serve

CLIENTS = 150
REQUEST = b"GET /work HTTP/1.1\r\nHost: a\r\n\r\n"
PATIENCE = 60.0
# What everybody is given before the last one has had anything: one by one, with the requests of all
# who are in already between any two of them, it would be some 60 each.
TURNS = 6


def test_a_crowd_is_let_in_before_those_inside_are_served_again_and_again(serve: Serve) -> None:
    server = serve("tests.apps.blocking:app", "--no-access-log", "--slow-loop-warning", "0")
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(CLIENTS)]
    waiting = set(clients)
    answers = 0
    deadline = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        try:
            for client in clients:
                client.sendall(REQUEST)
                selector.register(client, selectors.EVENT_READ)
            while waiting and time.monotonic() < deadline:
                for key, _ in selector.select(1):
                    ready = key.fileobj
                    assert isinstance(ready, socket.socket)
                    if not ready.recv(4096).endswith(b"worked"):
                        continue
                    answers += 1
                    waiting.discard(ready)
                    ready.sendall(REQUEST)
        finally:
            for client in clients:
                client.close()
    assert not waiting, f"{len(waiting)} of {CLIENTS} have had no answer after {answers} others"
    assert answers <= CLIENTS * TURNS
