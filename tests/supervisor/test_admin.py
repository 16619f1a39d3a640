"""The admin listener: what the supervisor says about itself and its workers, whatever they do."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Serve
from tests.supervisor.admin import APP, PATHS, PATIENCE, Admin, started, stopped, wait_for_lag
from tests.support.flavour import rsgi_only
from tests.support.server import ROOT, Server
from tests.support.waiting import eventually

pytestmark = rsgi_only("has no admin listener")


# What the paths say


def test_nobody_listens_unless_asked(serve: Serve) -> None:
    server = serve(APP)
    assert "Admin listener" not in server.stderr()
    listening = [c for c in psutil.Process(server.pid).net_connections() if c.status == "LISTEN"]
    assert len(listening) == 1


def test_a_server_whose_workers_are_ready_says_so(running: tuple[Server, Admin]) -> None:
    _, admin = running
    answers = {path: admin.get(path) for path in ["/livez", "/readyz", "/startupz"]}
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(
        answers, 200
    )
    assert answers["/readyz"].text == "2 of 2 workers ready\n"
    assert answers["/readyz"].headers["cache-control"] == "no-store"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Return a file without which the application `gated:app` is not imported."""
    (tmp_path / "gated.py").write_text(
        "import pathlib, time\n"
        "while not pathlib.Path(__file__).with_name('open').exists():\n"
        "    time.sleep(0.01)\n"
        "from tests.apps.stopping import app\n"
    )
    return tmp_path / "open"


def start_gated(serve: Serve, gate: Path, **options: Any) -> Server:
    flags = ["--admin-bind", "127.0.0.1:0", "--app-dir", str(gate.parent)]
    return serve("gated:app", *flags, env={"PYTHONPATH": str(ROOT)}, **options)


def test_the_start_is_not_over_before_all_workers_are_ready(serve: Serve, gate: Path) -> None:
    admin = Admin(start_gated(serve, gate, workers=2, ready=False))
    codes = {path: admin.get(path).status_code for path in PATHS}
    not_yet = {"/readyz": 503, "/startupz": 503}
    assert codes == dict.fromkeys(PATHS, 200) | not_yet
    assert admin.get("/startupz").text == "starting: 0 of 2 workers ready\n"
    assert admin.get("/readyz").text == "0 of 2 workers ready\n"
    gate.touch()
    eventually(lambda: admin.get("/startupz").status_code == 200, "start", PATIENCE)
    assert admin.get("/readyz").text == "2 of 2 workers ready\n"


def test_no_ready_worker_is_not_ready(serve: Serve, gate: Path) -> None:
    gate.touch()
    server = start_gated(serve, gate)
    admin = Admin(server)
    eventually(lambda: admin.get("/readyz").status_code == 200, "a ready worker", PATIENCE)
    gate.unlink()
    (victim,) = server.worker_pids()
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: admin.get("/readyz").status_code == 503, "no ready worker", PATIENCE)
    assert admin.get("/readyz").text == "0 of 1 workers ready\n"
    assert admin.get("/startupz").status_code == 200
    gate.touch()
    eventually(lambda: admin.get("/readyz").status_code == 200, "a replacement", PATIENCE)


def test_readiness_ends_when_a_shutdown_begins(serve: Serve) -> None:
    server, admin = started(serve)
    with server.connect() as wire:
        wire.request("/hang")
        server.wait_for_log("APP: started")
        server.signal(signal.SIGTERM)
        server.wait_for_log("Shutting down, waiting")
        eventually(lambda: admin.get("/readyz").status_code == 503, deadline=PATIENCE)
        assert admin.get("/readyz").text == "shutting down\n"
        assert admin.get("/livez").status_code == 200
        assert admin.get("/startupz").status_code == 200
        assert admin.get("/workers").json()["state"] == "stopping"
        assert [worker["state"] for worker in admin.workers()] == ["draining"]
        assert admin.total("rsgi_ready") == 0
        server.signal(signal.SIGQUIT)
    assert server.wait(PATIENCE) == 0


def test_workers_are_listed_with_what_they_do(running: tuple[Server, Admin]) -> None:
    server, admin = running
    with server.connect() as wire:
        pid = int(wire.get("/pid").body)
        wire.request("/hang")
        server.wait_for_log("APP: started")
        document = admin.get("/workers").json()
    assert document["pid"] == server.pid
    assert (document["ready"], document["wanted"]) == (2, 2)
    assert [worker["index"] for worker in document["workers"]] == [0, 1]
    assert {worker["pid"] for worker in document["workers"]} == set(server.worker_pids())
    (busy,) = [worker for worker in document["workers"] if worker["pid"] == pid]
    assert (busy["connections"], busy["requests_in_flight"], busy["requests"]) == (1, 1, 2)
    assert (busy["state"], busy["restarts"], busy["blocked_since"]) == ("ready", 0, None)
    assert document["started"] <= busy["since"] <= document["now"] <= time.time()
    assert busy["rss_bytes"] > 1 << 20
    assert busy["python"] == ".".join(map(str, sys.version_info[:3]))


def test_it_answers_while_the_only_worker_is_blocked(serve: Serve, tmp_path: Path) -> None:
    server, admin = started(serve)
    end = tmp_path / "end"
    with server.connect() as wire:
        wire.get("/pid")
        wire.request(f"/block-until?{end}")
        server.wait_for_log("APP: blocking")
        wait_for_lag(admin, 0.5)
        assert [admin.get(path).status_code for path in PATHS] == [200] * len(PATHS)
        (worker,) = admin.workers()
        assert worker["requests_in_flight"] == 1
        assert worker["blocked_since"] <= time.time() - 0.4
        assert admin.total("rsgi_worker_loop_lag_seconds") >= 0.5
        end.touch()
        assert wire.read_response().status == 200
    eventually(lambda: admin.total("rsgi_worker_loop_stalls_total") >= 1, deadline=PATIENCE)
    assert admin.total("rsgi_worker_loop_stalled_seconds_total") >= 0.5


def test_it_answers_while_all_workers_are_stopped(running: tuple[Server, Admin]) -> None:
    server, admin = running
    with stopped(server):
        assert [admin.get(path).status_code for path in PATHS] == [200] * len(PATHS)


# Who asks, and how


def test_an_unknown_path_is_404_and_tells_the_paths(running: tuple[Server, Admin]) -> None:
    _, admin = running
    answer = admin.get("/metrics/")
    assert answer.status_code == 404
    assert all(path in answer.text for path in PATHS)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_405(running: tuple[Server, Admin], method: str) -> None:
    _, admin = running
    answer = admin.request(method, "/livez")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
def test_head_is_get_without_content(running: tuple[Server, Admin], path: str) -> None:
    _, admin = running
    get, head = admin.get(path), admin.request("HEAD", path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics" and path != "/workers":
        assert head.headers["content-length"] == get.headers["content-length"]


def test_a_query_does_not_matter(running: tuple[Server, Admin]) -> None:
    _, admin = running
    assert admin.get("/livez?verbose").status_code == 200


def raw(admin: Admin, *parts: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", admin.port), PATIENCE)
    for part in parts:
        connection.sendall(part)
    return connection


def test_silent_clients_hold_nobody_up(running: tuple[Server, Admin]) -> None:
    """More than there may be: the first ones have to go, a probe still gets through."""
    server, admin = running
    silent = [raw(admin, b"GET /li") for _ in range(40)]
    try:
        assert admin.get("/livez").status_code == 200
        with contextlib.suppress(ConnectionResetError):  # with bytes unread, a close is a reset
            assert silent[0].recv(1) == b""
        # And supervision goes on.
        victim = server.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        server.wait_for_workers(2, without=victim)
    finally:
        for connection in silent:
            connection.close()


def test_a_client_that_never_ends_its_request_is_cut_off(running: tuple[Server, Admin]) -> None:
    _, admin = running
    with raw(admin, b"GET /livez HTTP/1.1\r\n") as connection:
        start = time.monotonic()
        connection.settimeout(60)
        while connection.recv(1024):
            pass
        assert time.monotonic() - start < 45, "the limit is 10 s"


def test_a_head_without_end_is_refused(running: tuple[Server, Admin]) -> None:
    _, admin = running
    with raw(admin, b"GET /livez HTTP/1.1\r\nx: ") as connection:
        try:
            connection.sendall(b"x" * 100_000)
            status = http.client.HTTPResponse(connection)
            status.begin()
            assert status.status == 431
        except OSError:
            pass  # closed behind its back: as good
    with raw(admin, b"\x16\x03\x01\x00\r\n\r\n") as connection:
        assert b" 200 " not in connection.recv(1024)
    assert admin.get("/livez").status_code == 200


def test_a_connection_carries_one_request(running: tuple[Server, Admin]) -> None:
    _, admin = running
    with raw(admin, b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n" * 2) as connection:
        received = b""
        while part := connection.recv(4096):
            received += part
    assert received.count(b"alive") == 1
    assert b"connection: close" in received


# Where it listens


def test_a_unix_socket_is_for_the_servers_user_and_goes_with_it(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "admin.sock"
    server = serve(APP, "--admin-bind", f"unix:{path}")
    admin = Admin(server)
    assert admin.get("/readyz").text == "1 of 1 workers ready\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert server.stop(PATIENCE) == 0
    assert not path.exists()


@pytest.mark.parametrize("same", [True, False], ids=["own-port", "other-port"])
def test_a_port_in_use_is_a_failed_start(serve: Serve, same: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = ["--admin-bind", f"127.0.0.1:{port}"]
        if same:
            taken.close()
            flags += ["--port", str(port)]
        server = serve(APP, *flags, ready=False)
        assert server.wait(PATIENCE) == 3
    reason = "address already in use, stop the other server or choose another port"
    assert f"admin listener: {reason}: `127.0.0.1:{port}`" in server.stderr()


@pytest.mark.parametrize("address", ["fd://3", "9000", "127.0.0.1", "[::1]", "unix:"])
def test_an_address_must_be_a_whole_one(serve: Serve, address: str) -> None:
    server = serve(APP, "--admin-bind", address, ready=False)
    assert server.wait(PATIENCE) == 2
    assert "--admin-bind" in server.stderr()


def test_workers_do_not_inherit_the_listener(running: tuple[Server, Admin]) -> None:
    server, admin = running
    for pid in server.worker_pids():
        listening = [
            connection.laddr.port
            for connection in psutil.Process(pid).net_connections()
            if connection.status == "LISTEN"
        ]
        assert admin.port not in listening


def test_the_supervisor_stays_small_and_idle(running: tuple[Server, Admin]) -> None:
    """The bar is 12 MB of memory that is its own, and no processor time when nothing happens."""
    server, admin = running
    for _ in range(20):
        admin.get("/metrics")
    supervisor = psutil.Process(server.pid)
    pss = supervisor.memory_full_info().pss / 1e6
    before = supervisor.cpu_times()
    psutil.cpu_percent(interval=1)
    after = supervisor.cpu_times()
    used = after.user + after.system - before.user - before.system
    assert pss < 24, f"{pss:.1f} MB"
    assert used < 0.2, f"{used:.3f} s of CPU in a second"
