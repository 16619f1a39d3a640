"""The admin listener's metrics: well-formed, right, and never going back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from tests.conftest import Serve
from tests.supervisor.admin import PATIENCE, Admin, Samples, started, wait_for_lag
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = rsgi_only("has no admin listener")


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
