"""The lifespan protocol (ASGI lifespan specification 2.0) in the modes auto, on and off."""

from __future__ import annotations

import ast
import signal
import time

import pytest

from tests.conftest import Serve
from tests.support.flavour import clean_exit_after_term, rsgi_only
from tests.support.server import Server
from tests.support.waiting import eventually
from tests.support.wire import seconds_since

APPS = "tests.apps.lifespans"


def run_to_exit(serve: Serve, app: str, *flags: str, workers: int = 1) -> tuple[int, Server]:
    server = serve(f"{APPS}:{app}", *flags, ready=False, allow_tracebacks=True, workers=workers)
    return server.wait(deadline=20), server


def test_the_scope_holds_type_versions_and_state(serve: Serve) -> None:
    server = serve(f"{APPS}:ordinary")
    server.wait_for_log(r"APP: scope \['asgi', 'state', 'type'\] .*'version': '3.0'")


def test_the_lifespan_spec_version_is_2_0(serve: Serve) -> None:
    serve(f"{APPS}:ordinary").wait_for_log(r"APP: scope .*'spec_version': '2.0'")


def test_the_startup_message_is_exactly_its_type(serve: Serve) -> None:
    serve(f"{APPS}:ordinary").wait_for_log(r"APP: \{'type': 'lifespan.startup'\}")


def test_the_shutdown_message_is_exactly_its_type(serve: Serve) -> None:
    server = serve(f"{APPS}:ordinary")
    server.stop()
    server.wait_for_log(r"APP: \{'type': 'lifespan.shutdown'\}")


def test_the_application_leaves_its_lifespan_in_its_own_time(serve: Serve) -> None:
    server = serve(f"{APPS}:ordinary")
    server.stop()
    server.wait_for_log("APP: left")


def test_state_reaches_the_requests(serve: Serve) -> None:
    assert "'answer': 42}" in serve(f"{APPS}:ordinary").get("/").text


@rsgi_only("has no worker numbers")
def test_the_workers_number_is_in_the_state(serve: Serve) -> None:
    state = ast.literal_eval(serve(f"{APPS}:ordinary").get("/").text)
    assert state == {"rsgi.worker_index": 0, "answer": 42}


def test_no_request_is_served_before_the_startup_is_complete(serve: Serve) -> None:
    server = serve(f"{APPS}:slow")
    assert server.get("/").status_code == 200
    log = server.stderr()
    assert log.index("APP: started") < log.index("Application startup complete")


def test_the_shutdown_waits_for_the_last_request(serve: Serve) -> None:
    server = serve(f"{APPS}:ordinary")
    with server.connect() as wire:
        wire.request("/second")
        server.wait_for_log("APP: request started")
        server.signal(signal.SIGTERM)
        assert wire.read_response().status == 200
    server.wait()
    log = server.stderr()
    assert log.index("APP: request ended") < log.index("lifespan.shutdown'")


def test_the_process_waits_for_the_shutdown(serve: Serve) -> None:
    server = serve(f"{APPS}:slow")
    start = time.monotonic()
    server.stop()
    assert seconds_since(start) > 0.4
    assert "APP: stopped" in server.stderr()


@pytest.mark.parametrize("app", ["unaware", "returning", "raising_after_receive"])
def test_auto_serves_an_application_without_lifespan(serve: Serve, app: str) -> None:
    assert serve(f"{APPS}:{app}").get("/").status_code == 200


def test_auto_writes_no_traceback_for_an_application_without_lifespan(serve: Serve) -> None:
    server = serve(f"{APPS}:unaware")
    server.get("/")
    server.stop()
    assert "Traceback" not in server.stderr()


@pytest.mark.parametrize("app", ["unaware", "raising_after_receive"])
def test_on_refuses_an_application_that_raises(serve: Serve, app: str) -> None:
    assert run_to_exit(serve, app, "--lifespan", "on")[0] == 3


def test_on_shows_the_traceback(serve: Serve) -> None:
    _, server = run_to_exit(serve, "raising_after_receive", "--lifespan", "on")
    assert "RuntimeError: the start-up went wrong" in server.stderr()


def test_off_does_not_call_the_application(serve: Serve) -> None:
    server = serve(f"{APPS}:ordinary", "--lifespan", "off")
    assert server.get("/").status_code == 200
    assert "APP: scope" not in server.stderr()


def test_off_gives_the_requests_no_state(serve: Serve) -> None:
    assert serve(f"{APPS}:ordinary", "--lifespan", "off").get("/").text in ("None", "{}")


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("app", ["failing", "failing_without_message"])
def test_a_failed_startup_exits_3(serve: Serve, app: str, mode: str) -> None:
    assert run_to_exit(serve, app, "--lifespan", mode)[0] == 3


def test_a_failed_startup_prints_its_message(serve: Serve) -> None:
    _, server = run_to_exit(serve, "failing")
    assert "no database today" in server.stderr()


def test_a_failed_startup_says_that_the_server_exits(serve: Serve) -> None:
    _, server = run_to_exit(serve, "failing")
    assert "Application startup failed" in server.stderr()


def test_a_failed_startup_leaves_nothing_running(serve: Serve) -> None:
    _, server = run_to_exit(serve, "failing")
    assert eventually(lambda: not server.survivors())


@rsgi_only("exits with 0 (or loops) when there are several workers")
def test_a_failed_startup_of_several_workers_exits_3(serve: Serve) -> None:
    assert run_to_exit(serve, "failing", workers=2)[0] == 3


def test_a_failed_shutdown_is_logged(serve: Serve) -> None:
    server = serve(f"{APPS}:failing_shutdown")
    server.stop()
    assert "cannot let go" in server.stderr()


def test_a_failed_shutdown_is_still_the_clean_exit(serve: Serve) -> None:
    assert serve(f"{APPS}:failing_shutdown").stop() == clean_exit_after_term(1)


def test_a_shutdown_that_raises_is_logged(serve: Serve) -> None:
    server = serve(f"{APPS}:raising_shutdown", "--lifespan", "on", allow_tracebacks=True)
    server.stop()
    assert "the shutdown went wrong" in server.stderr()


@rsgi_only("does not notice the signal during the start-up")
def test_a_server_that_never_starts_can_be_stopped(serve: Serve) -> None:
    server = serve(f"{APPS}:never_starting", ready=False, allow_tracebacks=True)
    server.wait_for_log("APP: starting")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_a_task_of_the_startup_runs_beside_the_requests(serve: Serve) -> None:
    server = serve(f"{APPS}:with_task")
    first = int(server.get("/").text)
    assert eventually(lambda: int(server.get("/").text) > first + 2)


def test_each_worker_has_its_own_lifespan(serve: Serve) -> None:
    server = serve(f"{APPS}:ordinary", workers=2)
    assert server.stderr().count("'lifespan.startup'") == 2


def test_each_worker_shuts_down(serve: Serve) -> None:
    server = serve(f"{APPS}:ordinary", workers=2)
    server.stop()
    assert server.stderr().count("'lifespan.shutdown'") == 2
