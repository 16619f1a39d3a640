"""Too much to do: a queue in front of the application, requests that never end, descriptors that
run out, more connections than wanted.
"""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.http2 import Http2
from tests.support.server import Server
from tests.support.waiting import eventually
from tests.support.websocket import RawWebSocket, handshake, open_client
from tests.support.wire import Wire

pytestmark = rsgi_only("has neither a queue nor such limits")
APP = "tests.apps.overloading:app"
GOAWAY = 7


class Holder:
    """A request that keeps its place until it is let go."""

    def __init__(self, server: Server) -> None:
        """Take a place."""
        self.wire = server.connect()
        self.wire.send(b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1")

    def let_go(self) -> None:
        """Give the place to the next one."""
        self.wire.send(b"2")
        assert self.wire.read_response().body == b"12"


def admin_flags(tmp_path: Path) -> list[str]:
    return ["--admin-bind", f"unix:{tmp_path}/admin.sock"]


def workers(tmp_path: Path) -> list[dict[str, int]]:
    """Return what the supervisor tells of each worker."""
    transport = httpx.HTTPTransport(uds=f"{tmp_path}/admin.sock")
    with httpx.Client(transport=transport, base_url="http://admin", trust_env=False) as client:
        listed: list[dict[str, int]] = json.loads(client.get("/workers").text)["workers"]
    return listed


def in_queue(tmp_path: Path) -> int:
    """Return how many requests wait."""
    return sum(worker["requests_waiting"] for worker in workers(tmp_path))


def wait_for_queue(tmp_path: Path, length: int) -> None:
    eventually(lambda: in_queue(tmp_path) == length, f"{length} in the queue")


def metric(tmp_path: Path, name: str) -> float:
    transport = httpx.HTTPTransport(uds=f"{tmp_path}/admin.sock")
    with httpx.Client(transport=transport, base_url="http://admin", trust_env=False) as client:
        text = client.get("/metrics").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + "{"))


def ask_numbered(server: Server, number: int, key: str, content: bytes) -> Wire:
    wire = server.connect()
    fields = (("X-Number", str(number)), ("Content-Length", str(len(content))))
    wire.request(f"/noted?{key}", "POST", fields)
    wire.send(content)
    return wire


# The queue


@pytest.mark.parametrize("size", [0, 50_000], ids=["no-content", "content"])
def test_requests_above_the_limit_wait_in_order_and_are_served(
    serve: Serve, tmp_path: Path, key: str, size: int
) -> None:
    flags = ["--limit-concurrency", "1", "--limit-queue", "4", *admin_flags(tmp_path)]
    server = serve(APP, *flags)
    holder = Holder(server)
    wires = []
    for number in range(4):
        wires.append(ask_numbered(server, number, key, b"x" * size))
        wait_for_queue(tmp_path, number + 1)
    refused = server.get("/hello")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    holder.let_go()
    for wire in wires:
        assert wire.read_response().body == b"x" * size
    assert server.journal(key) == ["0", "1", "2", "3"]
    assert metric(tmp_path, "rsgi_requests_turned_away_total") == 1


def test_a_request_waits_no_longer_than_it_may(serve: Serve) -> None:
    flags = ["--limit-concurrency", "1", "--limit-queue", "5", "--timeout-queue", "0.5"]
    server = serve(APP, *flags)
    holder = Holder(server)
    began = time.monotonic()
    refused = server.get("/hello")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert 0.5 <= time.monotonic() - began < 8
    holder.let_go()
    assert server.get("/hello").status_code == 200


def test_a_client_that_leaves_is_not_served(serve: Serve, tmp_path: Path, key: str) -> None:
    flags = ["--limit-concurrency", "1", "--limit-queue", "2", *admin_flags(tmp_path)]
    server = serve(APP, *flags)
    holder = Holder(server)
    first = ask_numbered(server, 1, key, b"")
    wait_for_queue(tmp_path, 1)
    second = ask_numbered(server, 2, key, b"second")
    wait_for_queue(tmp_path, 2)
    first.close()
    wait_for_queue(tmp_path, 1)
    holder.let_go()
    assert second.read_response().body == b"second"
    assert server.journal(key) == ["2"]


def test_streams_wait_as_connections_do(serve: Serve, tmp_path: Path) -> None:
    flags = ["--limit-concurrency", "1", "--limit-queue", "2", *admin_flags(tmp_path)]
    server = serve(APP, *flags)
    holder = Holder(server)
    with Http2(server) as client:
        waiting = [client.start("/hello"), client.start("/hello")]
        wait_for_queue(tmp_path, 2)
        refused = client.read(client.start("/hello"))
        assert (refused.status, refused.value("retry-after")) == (503, "1")
        holder.let_go()
        assert [client.read(stream).body for stream in waiting] == [b"hello", b"hello"]


def test_the_handshake_of_a_websocket_waits_and_an_open_one_takes_no_place(
    serve: Serve, tmp_path: Path
) -> None:
    flags = ["--limit-concurrency", "1", "--limit-queue", "1", *admin_flags(tmp_path)]
    server = serve("tests.apps.sockets.scenarios:app", *flags)
    with open_client(server, "/echo") as first:
        assert server.get("/journal?none").status_code == 200
        with open_client(server, "/echo") as second:
            first.send("first")
            second.send("second")
            assert (first.recv(), second.recv()) == ("first", "second")


def test_a_handshake_that_waits_is_accepted_in_its_turn(serve: Serve, tmp_path: Path) -> None:
    flags = ["--limit-concurrency", "1", "--limit-queue", "1", *admin_flags(tmp_path)]
    server = serve("tests.apps.overloading:with_sockets", *flags)
    holder = Holder(server)
    wire = server.connect()
    wire.send(handshake("/echo"))
    wait_for_queue(tmp_path, 1)
    holder.let_go()
    assert wire.read_head().status == 101


# Requests that never end


def test_a_request_without_an_answer_is_cancelled_and_answered_504(
    serve: Serve, tmp_path: Path, key: str
) -> None:
    server = serve(APP, "--timeout-request", "0.5", *admin_flags(tmp_path))
    began = time.monotonic()
    response = server.get(f"/hang?{key}")
    assert (response.status_code, response.text) == (504, "Gateway Timeout")
    assert 0.5 <= time.monotonic() - began < 8
    server.wait_for_journal(key, "cancelled")
    line = server.wait_for_log(r"WARNING.*timed out.*")
    assert "GET /hang" in line
    assert "Exception in ASGI application" not in server.stderr()
    assert metric(tmp_path, "rsgi_requests_timed_out_total") == 1
    assert server.get("/hello").text == "hello"
    assert len(server.worker_pids()) == 1


def test_a_stream_without_an_answer_is_cancelled_and_the_others_go_on(
    serve: Serve, key: str
) -> None:
    server = serve(APP, "--timeout-request", "0.5")
    with Http2(server) as client:
        hung, begun = client.start(f"/hang?{key}"), client.start("/hang-within")
        lively = client.start("/tick")
        assert client.read(hung).status == 504
        assert client.read(begun).reset is not None
        assert client.read(lively).body == b"." * 10
    server.wait_for_journal(key, "cancelled")


def test_a_response_that_stops_is_cut(serve: Serve, key: str) -> None:
    server = serve(APP, "--timeout-request", "0.5")
    wire = server.connect()
    wire.request(f"/hang-within?{key}")
    received = wire.read_to_end()
    assert received.endswith(b"5\r\nbegun\r\n"), received
    server.wait_for_journal(key, "cancelled")


def test_a_response_that_goes_on_is_not_cut(serve: Serve) -> None:
    server = serve(APP, "--timeout-request", "1")
    assert server.get("/tick").content == b"." * 10


def test_an_application_that_answers_all_the_same_is_told(serve: Serve, key: str) -> None:
    server = serve(APP, "--timeout-request", "0.5")
    assert server.get(f"/hang-and-send?{key}").status_code == 504
    server.wait_for_journal(key, "ClientDisconnected")


def test_the_client_of_a_thread_is_answered_although_the_thread_goes_on(serve: Serve) -> None:
    server = serve(APP, "--timeout-request", "0.5")
    assert server.get("/thread").status_code == 504
    assert server.get("/hello").text == "hello"


def test_a_client_that_keeps_its_content_gets_408(serve: Serve) -> None:
    server = serve(APP, "--timeout-request", "0.5")
    assert Holder(server).wire.read_response().status == 408


def test_a_websocket_is_given_up_until_it_is_open_and_not_then(serve: Serve) -> None:
    server = serve("tests.apps.sockets.scenarios:app", "--timeout-request", "0.5")
    with RawWebSocket(server, "/echo") as client:
        time.sleep(1)
        client.send(0x1, b"still there")
        client.expect(0x1, b"still there")


# Connections


def is_served(wire: Wire) -> bool:
    return wire.is_readable(0.3)


def test_connections_above_the_limit_wait_until_others_close(serve: Serve) -> None:
    server = serve(APP, "--limit-connections", "2", "--timeout-keep-alive", "60")
    first, second = Holder(server), Holder(server)
    third = server.connect()
    third.request("/hello")
    assert not is_served(third)
    # Who is served meanwhile makes room: somebody waits.
    first.wire.send(b"2")
    assert first.wire.read_response().value(b"connection") == b"close"
    assert third.read_response().body == b"hello"
    # So does one who has no request, at once.
    fourth = server.connect()
    assert fourth.get("/hello").body == b"hello"
    assert third.read_to_end() == b""
    fifth = Holder(server)
    sixth = server.connect()
    sixth.request("/hello")
    assert not is_served(sixth)
    second.wire.close()
    assert sixth.read_response().body == b"hello"
    fifth.let_go()


def test_the_longest_idle_make_room_and_nobody_else(serve: Serve) -> None:
    server = serve(APP, "--limit-connections", "6", "--timeout-keep-alive", "60")
    held, fresh = Holder(server), server.connect()
    idle = [server.connect() for _ in range(3)]
    with Http2(server) as http2:
        for wire in idle:
            assert wire.get("/hello").body == b"hello"
        assert http2.ask("/hello").body == b"hello"
        # It has waited for less than the others now.
        assert idle[0].get("/hello").body == b"hello"
        late = []
        for expected in (idle[1], idle[2], None):
            late.append(server.connect())
            assert late[-1].get("/hello").body == b"hello"
            assert expected is None or expected.read_to_end() == b""
        assert GOAWAY in [kind for kind, *_ in http2.frames_to_the_end()]
    # Who has sent nothing yet is not hung up on, nor who has a request.
    assert fresh.get("/hello").body == b"hello"
    held.let_go()


def test_busy_connections_are_not_closed_for_others(serve: Serve) -> None:
    server = serve(APP, "--limit-connections", "3", "--timeout-keep-alive", "60")
    held = [Holder(server) for _ in range(3)]
    late = server.connect()
    late.request("/hello")
    assert not is_served(late)
    for holder in held:
        holder.wire.send(b"2")
        assert holder.wire.read_response().body == b"12"
    assert late.read_response().body == b"hello"


def test_connections_go_to_the_worker_that_may_take_them(serve: Serve, tmp_path: Path) -> None:
    server = serve(APP, "--limit-connections", "2", *admin_flags(tmp_path), workers=2)
    holders = [Holder(server) for _ in range(4)]
    counts = "connections"
    eventually(lambda: [worker[counts] for worker in workers(tmp_path)] == [2, 2], "two on each")
    for holder in holders:
        holder.let_go()


# Descriptors

FILES = 60


def test_a_lack_of_descriptors_is_survived_without_spinning(serve: Serve, key: str) -> None:
    server = serve(APP)
    worker = psutil.Process(server.worker_pids()[0])
    worker.rlimit(psutil.RLIMIT_NOFILE, (FILES, FILES))
    held = Holder(server)
    with server.connect() as wire:
        assert wire.get(f"/take-files-for-a-while?{key}").body == b"soon"
        eventually(lambda: worker.num_fds() >= FILES, "no descriptor left")
        late = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        line = server.wait_for_log(r"cannot accept connections: .*")
        assert "LimitNOFILE" in line
        before, began = worker.cpu_times(), time.monotonic()
        for client in late:
            client.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        # Who has no request makes room; who has one is served meanwhile.
        assert wire.read_to_end() == b""
        held.let_go()
        for client in late:
            client.settimeout(20)
            with client.makefile("rb") as answer:
                assert answer.read().endswith(b"hello")
            client.close()
        after, took = worker.cpu_times(), time.monotonic() - began
    spent = after.user + after.system - before.user - before.system
    assert spent < max(0.2 * took, 0.1), f"{spent:.2f} s of {took:.2f} s"
    assert len(re.findall("cannot accept connections", server.stderr())) == 1


def test_connections_go_to_a_worker_that_has_descriptors(serve: Serve, key: str) -> None:
    server = serve(APP, workers=2)
    for pid in server.worker_pids():
        psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE, (FILES, FILES))
    with server.connect() as wire:
        assert wire.get(f"/take-files-for-a-while?{key}").body == b"soon"
        poor = int(wire.get("/pid").body)
        # Or it would make room where the other worker is slow.
        wire.send(b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1")
        eventually(lambda: psutil.Process(poor).num_fds() >= FILES, "no descriptor left")
        others = [server.connect() for _ in range(6)]
        pids = {int(other.get("/pid").body) for other in others}
    assert pids == set(server.worker_pids()) - {poor}
