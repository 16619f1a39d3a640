"""Waiting for a message: the task that goes on runs inside `select()`, and must not notice."""

from __future__ import annotations

import threading
import time

import pytest

from tests.conftest import Serve, Shared
from tests.support.server import Server
from tests.support.websocket import PATIENCE, handshake, open_client

APP = "tests.apps.sockets.waiting:app"


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared(APP)


@pytest.mark.parametrize(
    ("target", "sent", "answer"),
    [
        ("/context", ["1", "2"], "1 red 2 blue"),
        ("/cancelled", ["1"], "1"),
        ("/cancelled-when-woken", ["1", "2"], "2"),
        ("/misunderstood", ["1"], "1"),
        ("/python-task", ["1"], "1"),
        ("/other-loop", ["1"], "1"),
    ],
)
def test_who_waits_goes_on_as_with_a_future_of_asyncio(
    server: Server, target: str, sent: list[str], answer: str
) -> None:
    with open_client(server, target) as client:
        assert client.recv(timeout=PATIENCE) == "go"
        for text in sent:
            client.send(text)
        assert client.recv(timeout=PATIENCE) == answer


@pytest.mark.parametrize(
    ("target", "count", "last"),
    [("/in-turn", 18, " ".join(map(str, range(18)))), ("/kept", 3, "2")],
)
def test_one_wait_after_another(server: Server, target: str, count: int, last: str) -> None:
    with open_client(server, target) as client:
        for number in range(count):
            assert client.recv(timeout=PATIENCE) == "go"
            client.send(str(number))
        assert client.recv(timeout=PATIENCE) == last


def test_a_thread_can_wake_who_waits(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.send(handshake(f"/refused-by-a-thread?{key}"))
        assert wire.read_response().status == 403
    server.wait_for_journal(key, "websocket.disconnect")


def test_timers_and_requests_have_their_turn_beside_messages(server: Server) -> None:
    stop = threading.Event()
    answers: list[str] = []

    def talk() -> None:
        with open_client(server, "/busy", compression=None) as client:
            while not stop.is_set():
                for _ in range(50):  # so that something is always there
                    client.send("x")
                for _ in range(50):
                    answer = str(client.recv(timeout=PATIENCE))
                answers.append(answer)

    talkers = [threading.Thread(target=talk) for _ in range(3)]
    for talker in talkers:
        talker.start()
    limit = time.monotonic() + PATIENCE
    try:
        with server.client() as client:
            while max((int(it.split()[0]) for it in answers), default=0) < 50:
                assert client.get("/").text == "hello"
                assert time.monotonic() < limit, answers[-1:]
    finally:
        stop.set()
        for talker in talkers:
            talker.join(PATIENCE)
    assert len(answers) > 10


def test_an_exit_from_a_message_ends_the_worker(serve: Serve) -> None:
    server = serve(APP, allow_tracebacks=True)
    with open_client(server, "/exit") as client:
        pid = int(client.recv(timeout=PATIENCE))
        client.send("x")
        server.wait_for_workers(1, without=pid)
