"""The admin listener: what the supervisor says about itself and its workers, whatever they do."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.server import ROOT, Server
from tests.support.waiting import eventually

APP = "tests.apps.stopping:app"
PATIENCE = 30.0
PATHS = ["/livez", "/readyz", "/startupz", "/metrics", "/workers"]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

pytestmark = rsgi_only("has no admin listener")


class Admin:
    """The admin listener of a server."""

    def __init__(self, server: Server) -> None:
        """Find the address in the log."""
        found = server.wait_for_log(r"Admin listener at \S+").split()[-1]
        self.path = found.removeprefix("unix:") if found.startswith("unix:") else None
        self.address = found.removeprefix("http://").removeprefix("unix:")
        self.port = 0 if self.path else int(found.rpartition(":")[2])

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request."""
        transport = httpx.HTTPTransport(uds=self.path) if self.path else None
        base_url = "http://localhost" if self.path else f"http://127.0.0.1:{self.port}"
        with httpx.Client(
            base_url=base_url, transport=transport, trust_env=False, timeout=PATIENCE
        ) as client:
            return client.request(method, path, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Send a GET."""
        return self.request("GET", path, **options)

    def workers(self) -> list[dict[str, Any]]:
        """Return the list of workers."""
        workers: list[dict[str, Any]] = self.get("/workers").json()["workers"]
        return workers

    def metrics(self) -> Samples:
        """Return every sample of the metrics."""
        samples: Samples = {}
        for family in parse_prometheus(self.get("/metrics").text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in samples
                samples[key] = sample.value
        return samples

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all samples with this name and these labels."""
        wanted = set(labels.items())
        return sum(v for (n, found), v in self.metrics().items() if n == name and wanted <= found)

    def wait_for_total(self, name: str, value: float, **labels: str) -> None:
        """Wait until the sum is right: a request is counted when its response has left."""
        what = f"{name} {labels} of {value}"
        eventually(lambda: self.total(name, **labels) == value, what, PATIENCE)


def started(serve: Serve, *flags: str, **options: Any) -> tuple[Server, Admin]:
    server = serve(APP, "--admin-bind", "127.0.0.1:0", *flags, **options)
    admin = Admin(server)
    # The log says that a worker is ready a moment before its supervisor knows.
    eventually(lambda: admin.get("/startupz").status_code == 200, "start", PATIENCE)
    return server, admin


@pytest.fixture
def running(serve: Serve) -> tuple[Server, Admin]:
    return started(serve, workers=2)


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Stop all workers: nothing in them runs, neither Python nor Rust."""
    pids = server.worker_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


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


def wait_for_lag(admin: Admin, seconds: float) -> float:
    """Wait until the loop of the only worker has been blocked for so long; return how long."""

    def probe() -> float:
        lag = float(admin.workers()[0]["loop_lag_seconds"])
        return lag if lag >= seconds else 0

    return eventually(probe, f"{seconds} s of blocking", PATIENCE)


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


# Metrics


def scrape(admin: Admin, accept: str) -> httpx.Response:
    return admin.get("/metrics", headers={"accept": accept})


def test_both_formats_are_well_formed(running: tuple[Server, Admin]) -> None:
    server, admin = running
    server.get("/pid")
    server.get("/nowhere")
    plain = scrape(admin, "*/*")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in parse_prometheus(plain.text)}
    assert all(family.documentation for family in families.values())
    assert "unknown" not in {family.type for family in families.values()}

    asked = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    strict = scrape(admin, asked)
    assert strict.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse_openmetrics(strict.text)}  # type: ignore[no-untyped-call]
    # The two formats differ in the name of an info's family only.
    assert {name.removesuffix("_info") for name in names} == {
        name.removesuffix("_info") for name in families
    }
    if promtool := os.environ.get("PROMTOOL"):
        subprocess.run([promtool, "check", "metrics"], input=plain.content, check=True)


def test_requests_are_counted_by_class_and_timed(serve: Serve) -> None:
    server, admin = started(serve)
    with server.connect() as wire:
        for path in ["/pid", "/pid", "/second", "/nowhere"]:
            wire.get(path)
    with server.connect() as wire:
        wire.send(b"nonsense\r\n\r\n")
        wire.read_response()
    admin.wait_for_total("rsgi_requests_total", 3, code="2xx")
    admin.wait_for_total("rsgi_requests_total", 2, code="4xx")
    admin.wait_for_total("rsgi_connections", 0)
    assert admin.total("rsgi_connections_accepted_total") == 2
    # The one that the server refused by itself has no duration.
    assert admin.total("rsgi_request_duration_seconds_count") == 4
    assert admin.total("rsgi_request_duration_seconds_sum") >= 1
    assert admin.total("rsgi_request_duration_seconds_bucket", le="0.524288") == 3
    assert admin.total("rsgi_request_queue_seconds_count") == 4
    assert admin.total("rsgi_requests_in_flight") == 0
    with server.connect() as wire:
        wire.request("/hang")
        server.wait_for_log(r"APP: started[\s\S]*APP: started")
        assert admin.total("rsgi_requests_in_flight") == 1
        assert admin.total("rsgi_connections") == 1
        wire.reset()
        admin.wait_for_total("rsgi_requests_total", 1, code="none")


def test_bytes_are_counted_both_ways(serve: Serve) -> None:
    server, admin = started(serve)
    with server.connect() as wire:
        request = b"GET /pid HTTP/1.1\r\nhost: a\r\n\r\n"
        wire.send(request)
        response = wire.read_response()
        admin.wait_for_total("rsgi_received_bytes_total", len(request))
        assert admin.total("rsgi_sent_bytes_total") > len(response.body)


def test_waiting_behind_a_blocked_loop_is_queue_time(serve: Serve, tmp_path: Path) -> None:
    server, admin = started(serve)
    end = tmp_path / "end"
    with server.connect() as blocker, server.connect() as waiting:
        waiting.get("/pid")
        blocker.request(f"/block-until?{end}")
        server.wait_for_log("APP: blocking")
        before = wait_for_lag(admin, 0.1)
        waiting.request("/pid")
        wait_for_lag(admin, before + 1)
        end.touch()
        waiting.read_response()
        blocker.read_response()
    assert admin.total("rsgi_request_queue_seconds_sum") >= 1
    fast = admin.total("rsgi_request_queue_seconds_bucket", le="0.524288")
    assert admin.total("rsgi_request_queue_seconds_count") - fast == 1


# Totals outlive workers


def assert_nothing_went_back(before: Samples, after: Samples) -> None:
    counters = re.compile(r"_(total|bucket|count|sum)$")
    for (name, labels), value in before.items():
        if counters.search(name):
            assert after.get((name, labels), -1) >= value, f"{name} {dict(labels)}"


def kill_one(server: Server) -> None:
    victim = server.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    server.wait_for_workers(2, without=victim)


def reload_all(server: Server) -> None:
    since = server.mark()
    server.signal(signal.SIGHUP)
    server.wait_for_log("Reload complete", since, PATIENCE)


@pytest.mark.parametrize(
    ("replace", "cause", "count"),
    [(kill_one, "crash", 1), (reload_all, "reload", 2)],
    ids=["kill", "hup"],
)
def test_counters_survive_the_workers(
    running: tuple[Server, Admin], replace: Callable[[Server], None], cause: str, count: int
) -> None:
    server, admin = running
    for _ in range(20):
        server.get("/pid")
    admin.wait_for_total("rsgi_requests_total", 20, code="2xx")
    before = admin.metrics()
    assert before["rsgi_worker_restarts_total", frozenset({("worker", "0"), ("cause", cause)})] == 0

    replace(server)
    eventually(lambda: admin.get("/readyz").text == "2 of 2 workers ready\n", deadline=PATIENCE)
    assert_nothing_went_back(before, admin.metrics())
    assert admin.total("rsgi_requests_total", code="2xx") == 20
    assert admin.total("rsgi_request_duration_seconds_count") == 20
    assert admin.total("rsgi_worker_restarts_total", cause=cause) == count
    assert admin.total("rsgi_worker_restarts_total") == count

    for _ in range(5):
        server.get("/pid")
    admin.wait_for_total("rsgi_requests_total", 25, code="2xx")
    assert sum(worker["requests"] for worker in admin.workers()) < 25
    assert sum(worker["restarts"] for worker in admin.workers()) == count


def test_counters_never_go_back_while_workers_are_replaced(running: tuple[Server, Admin]) -> None:
    server, admin = running
    done = threading.Event()
    failures: list[str] = []

    def keep_looking() -> None:
        last = admin.metrics()
        while not done.is_set():
            current = admin.metrics()
            try:
                assert_nothing_went_back(last, current)
            except AssertionError as error:
                failures.append(str(error))
            last = current

    looking = threading.Thread(target=keep_looking)
    looking.start()
    try:
        for _ in range(50):
            server.get("/pid")
        reload_all(server)
        kill_one(server)
    finally:
        done.set()
        looking.join()
    assert failures == []


def test_recycling_is_a_cause_of_its_own(serve: Serve) -> None:
    server, admin = started(serve, "--limit-max-requests", "5")
    for _ in range(5):
        server.get("/pid")
    admin.wait_for_total("rsgi_worker_restarts_total", 1, cause="recycling")
    admin.wait_for_total("rsgi_requests_total", 5, code="2xx")


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


# Commands


def command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RSGI_") and k not in {"PORT"}}
    return subprocess.run(
        [sys.executable, "-m", "rsgi", *arguments],
        env=clean | (env or {}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_status_shows_a_table(running: tuple[Server, Admin]) -> None:
    server, admin = running
    for shown in [
        command("status", "--admin", admin.address),
        command("status", env={"RSGI_ADMIN_BIND": admin.address}),
    ]:
        assert (shown.returncode, shown.stderr) == (0, "")
        head, columns, *rows = shown.stdout.splitlines()
        assert head.endswith(f"[{server.pid}], running, 2 of 2 workers ready")
        assert columns.split()[:4] == ["INDEX", "PID", "GEN", "STATE"]
        assert [int(row.split()[1]) for row in rows] == [w["pid"] for w in admin.workers()]


def test_status_says_why_there_is_none(serve: Serve) -> None:
    missing = command("status")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "--admin-bind" in missing.stderr
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        late = command("status", "--admin", f"127.0.0.1:{port}", "--timeout", "100ms")
    assert (late.returncode, late.stderr) == (
        1,
        f"rsgi: cannot reach 127.0.0.1:{port}: timed out\n",
    )
    gone = command("status", "--admin", f"127.0.0.1:{port}")
    assert gone.returncode == 1
    assert gone.stderr.startswith(f"rsgi: cannot reach 127.0.0.1:{port}: Connection refused")
    other = command("status", "--admin", f"127.0.0.1:{serve(APP).port}")
    assert (other.returncode, "is no admin listener of rsgi" in other.stderr) == (1, True)


def test_health_follows_readiness(serve: Serve) -> None:
    server, admin = started(serve)
    for healthy in [
        command("health", "--admin", admin.address),
        command("health", env={"RSGI_ADMIN_BIND": admin.address, "PORT": "1"}),
    ]:
        assert (healthy.returncode, healthy.stdout) == (0, "1 of 1 workers ready\n")
    with server.connect() as wire:
        wire.request("/hang")
        server.wait_for_log("APP: started")
        server.signal(signal.SIGTERM)
        server.wait_for_log("Shutting down, waiting")
        ill = command("health", "--admin", admin.address)
        assert (ill.returncode, ill.stderr) == (1, "rsgi: shutting down\n")
        server.signal(signal.SIGQUIT)
    assert server.wait(PATIENCE) == 0
    gone = command("health", "--admin", admin.address)
    assert (gone.returncode, "cannot reach" in gone.stderr) == (1, True)


def test_health_without_an_admin_listener_asks_the_server(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    server = serve(APP, "--bind", "127.0.0.1:0", "--bind", f"unix:{path}")
    port = str(server.port)
    for healthy in [
        command("health", "--port", port),
        command("health", "--bind", f"127.0.0.1:{port}"),
        command("health", "--uds", str(path)),
        command("health", env={"PORT": port}),
        command("health", env={"RSGI_PORT": port, "PORT": "1"}),
        command("health", "--port", port, env={"RSGI_ADMIN_BIND": "127.0.0.1:1"}),
    ]:
        assert (healthy.returncode, healthy.stdout) == (0, "answered 404\n"), healthy.stderr
    good = command("health", "--url", f"http://127.0.0.1:{port}/pid")
    assert (good.returncode, good.stdout) == (0, "answered 200\n")
    bad = command("health", "--url", f"http://127.0.0.1:{port}/nowhere")
    assert (bad.returncode, bad.stderr) == (1, "rsgi: answered 404\n")
    server.stop(PATIENCE)
    assert command("health", "--port", port).returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--prot", "1"],
        ["--port"],
        ["--port", "x"],
        ["extra"],
        ["--url", "https://a/"],
        ["--url", "http:///"],
        ["--url", "http://a/b c"],
        ["--url", "http://a/", "--port", "1"],
        ["--timeout", "0"],
    ],
)
def test_a_health_check_that_is_wrong_is_never_healthy(arguments: list[str]) -> None:
    """1, not 2: Docker reserves that."""
    wrong = command("health", *arguments)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("error: ")
    assert "usage: rsgi health" in wrong.stderr


def test_commands_are_in_the_help_and_have_their_own() -> None:
    text = command("--help").stdout
    for name in ["status", "health"]:
        assert re.search(rf"^  {name} ", text, re.MULTILINE)
        own = command(name, "--help")
        assert (own.returncode, own.stdout.count(f"Usage: rsgi {name}")) == (0, 1)
    assert command("status", "--nonsense").returncode == 2


@pytest.mark.parametrize("target", ["status:app", "health:app"])
def test_an_application_called_like_a_command_is_served(
    serve: Serve, tmp_path: Path, target: str
) -> None:
    module = tmp_path / target.replace(":app", ".py")
    module.write_text("from tests.apps.stopping import app\n")
    server = serve(target, "--app-dir", str(tmp_path), env={"PYTHONPATH": str(ROOT)})
    assert server.get("/pid").status_code == 200


def test_commands_do_not_import_the_application_or_asyncio(running: tuple[Server, Admin]) -> None:
    _, admin = running
    code = (
        "import sys; sys.argv = ['rsgi', 'health', '--admin', sys.argv[1]];"
        "from rsgi.__main__ import main; status = main();"
        "import json; print(json.dumps([status, 'asyncio' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, admin.address], capture_output=True, check=True, cwd=ROOT
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, False]
