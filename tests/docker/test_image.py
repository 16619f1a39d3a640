"""What the image does in a container, beside what the other tests say of any process."""

from __future__ import annotations

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.docker.conftest import TESTS, Run
from tests.docker.engine import LONG, Container, Engine
from tests.docs.conftest import APP
from tests.support.flavour import rsgi_only
from tests.support.load import Load
from tests.support.server import ROOT
from tests.support.waiting import eventually

# The engine and its images are made in the first test's set-up.
pytestmark = [rsgi_only("is not what is in the image"), pytest.mark.timeout(1500)]

STOPPING = "tests.apps.stopping:app"
FASTAPI = """
import os
from fastapi import FastAPI

app = FastAPI()

@app.get("/pid")
async def pid() -> int:
    return os.getpid()

@app.get("/version")
async def version() -> str:
    return "VERSION"
"""


def mounted(directory: Path) -> tuple[str, ...]:
    return ("--volume", f"{directory}:/app:ro", "--env", "PYTHONDONTWRITEBYTECODE=1")


def last_check(container: Container) -> str:
    """Return what the latest health check that succeeded has printed."""
    log = container.state()["Health"]["Log"]
    output: str = [check["Output"] for check in log if check["ExitCode"] == 0][-1]
    return output


def test_the_example_serves_as_it_is_and_turns_healthy(run: Run) -> None:
    container = run(flags=("--health-interval", "1s")).ready()
    assert container.get().json() == {"hello": "world"}
    assert "WARNING" not in container.logs(), "of what the image sets itself"
    eventually(lambda: container.state()["Health"]["Status"] == "healthy", "health", LONG)
    assert re.fullmatch(r"\d+ of \d+ workers ready\n", last_check(container))
    assert container.supervisor().uids().real == 10001
    assert container.stop() == 0


def test_health_asks_the_port_where_there_is_no_admin_listener(run: Run) -> None:
    flags = ("--env", "RSGI_ADMIN_BIND=", "--env", "PORT=8080", "--health-interval", "1s")
    container = run("rsgi", STOPPING, flags=(*TESTS, *flags)).ready()
    eventually(lambda: container.state()["Health"]["Status"] == "healthy", "health", LONG)
    assert last_check(container).startswith("answered ")
    assert container.get("/pid", port=8080).status_code == 200
    status, message = container.execute("rsgi", "health", "--port", "1")
    assert status == 1, message


def test_probes_from_outside_reach_an_admin_listener_on_all_addresses(run: Run) -> None:
    flags = (*TESTS, "--env", "RSGI_ADMIN_BIND=0.0.0.0:9000")
    container = run("rsgi", STOPPING, flags=flags).ready()
    eventually(lambda: container.get("/startupz", port=9000).status_code == 200, "workers", LONG)
    for path in ["/readyz", "/livez"]:
        assert container.get(path, port=9000).status_code == 200
    assert "rsgi_build_info" in container.get("/metrics", port=9000).text
    assert container.execute("rsgi", "health")[0] == 0


def test_a_locked_down_container_serves(run: Run) -> None:
    locked = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    flags = ("--ipc", "none", "--user", "4711:4711")
    command = ("rsgi", "--workers", "2", STOPPING)
    container = run(*command, flags=(*TESTS, *locked, *flags)).ready()
    assert container.get("/pid").status_code == 200
    assert container.supervisor().uids().real == 4711
    assert container.stop() == 0


def test_docker_stop_lets_a_request_finish(run: Run) -> None:
    container = run("rsgi", "--workers", "2", STOPPING, flags=TESTS).ready()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(container.get, "/second")
        container.wait_for_log("APP: started")
        assert container.stop() == 0
        assert answer.result().text == "finished"


def test_docker_stop_under_load_loses_nothing(run: Run, directory: Path) -> None:
    (directory / "main.py").write_text(FASTAPI)
    command = ("rsgi", "--workers", "5", "--shutdown-delay", "4", "main:app")
    container = run(*command, flags=mounted(directory)).ready()
    # All of them: connections that come before stay with the first one that serves.
    container.wait_for_log(r"(?s)(Application startup complete\..*){5}")
    with Load((container.host, 8000), connections=20) as load:
        eventually(lambda: load.answered > 500, "load", LONG)
        stop = threading.Thread(target=container.stop, args=(60,))
        stop.start()
        # Within the delay, as a balancer does that hears of the stop a moment later.
        container.wait_for_log(r"Accepting connections for another 4 s")
        answered = load.answered
        eventually(lambda: load.answered > answered + 100, "load during the delay", LONG)
    assert not load.losses
    assert len(load.pids) > 1
    stop.join(LONG)
    assert container.status() == 0


def test_orphans_of_the_application_are_reaped_by_process_1(run: Run) -> None:
    container = run("rsgi", "--workers", "2", STOPPING, flags=TESTS).ready()
    workers = container.workers(2)
    for _ in range(4):
        assert container.get("/orphans").status_code == 200
    # A zombie would be a child beside them.
    assert container.workers(2) == workers


def test_a_worker_out_of_memory_is_named_and_replaced(run: Run) -> None:
    flags = (*TESTS, "--memory", "256m", "--memory-swap", "256m")
    container = run("rsgi", "--workers", "2", STOPPING, flags=flags).ready()
    before = container.workers(2)
    since = container.mark()
    # The connection is lost with the worker.
    with pytest.raises(httpx.RemoteProtocolError):
        container.get("/grow?400")
    container.wait_for_log(r"Worker \d \[\d+\] was killed by SIGKILL \(out of memory\)", since)
    container.wait_for_log(r"Started worker", since)
    assert len(container.workers(2) & before) == 1
    assert container.get("/pid").status_code == 200
    assert container.state()["Running"]
    assert container.stop() == 0


def test_auto_keeps_to_the_containers_limits(run: Run) -> None:
    processors = len(os.sched_getaffinity(0))
    limits = ("--cpus", "0.5", "--memory", "300m", "--memory-swap", "300m")
    line = run(flags=limits).wait_for_log(r"Using \d+ workers?: .*")
    found = re.fullmatch(
        r"Using (\d) workers?: 1 CPU \(cgroup quota 0.5\), memory limit 300 MiB, "
        r"first worker (\d+) MiB",
        line,
    )
    assert found, line
    assert 1 <= int(found[1]) <= 3
    unlimited = run().wait_for_log(r"Using \d+ workers?: .*")
    assert f" {processors} CPU" in unlimited


def test_hup_replaces_the_workers_with_the_new_code(run: Run, directory: Path) -> None:
    main = directory / "main.py"
    main.write_text(FASTAPI.replace("VERSION", "old"))
    container = run("rsgi", "--workers", "2", "main:app", flags=mounted(directory)).ready()
    before = container.workers(2)
    assert container.get("/version").json() == "old"
    main.write_text(FASTAPI.replace("VERSION", "new"))
    with Load((container.host, 8000), connections=4) as load:
        container.kill("HUP")
        eventually(lambda: not container.workers(2) & before, "two other workers", LONG)
        assert container.get("/version").json() == "new"
    assert not load.losses


def test_an_image_of_ones_own_begins_from_this_one(
    engine: Engine, image: str, run: Run, directory: Path
) -> None:
    """The Dockerfile of the guide, as its reader writes it."""
    guide = (ROOT / "docs/guides/docker.md").read_text()
    (dockerfile,) = re.findall(r"^```dockerfile\n(FROM rsgi\n.*?)^```", guide, re.M | re.S)
    runtime = image.replace("example", "runtime")
    (directory / "Dockerfile").write_text(dockerfile.replace("FROM rsgi\n", f"FROM {runtime}\n"))
    (directory / "requirements.txt").write_text("idna\n")
    (directory / "main.py").write_text(APP)
    tag = "rsgi-test/own:latest"
    engine.build(directory, "--tag", tag)
    container = run(image=tag).ready()
    assert container.get().text == "ok"
    assert container.stop() == 0
