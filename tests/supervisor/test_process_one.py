"""The server as process 1, as in a container: it inherits every orphan and has to reap it."""

from __future__ import annotations

import subprocess

import psutil
import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.waiting import eventually

APP = "tests.apps.stopping:app"
LONG = 30.0
#: `exec`s the server as the first process of a new namespace.
PREFIX = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

pytestmark = rsgi_only("leaves them as zombies")


@pytest.fixture(autouse=True)
def _needs_a_namespace() -> None:
    try:
        made = subprocess.run([*PREFIX, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1)")
    if made.returncode:
        pytest.skip(f"no process namespace: {made.stderr.strip()}")


def test_process_1_reaps_orphans_and_takes_none_for_a_worker(serve: Serve) -> None:
    server = serve(APP, "--log-level", "debug", workers=2, prefix=PREFIX)
    (supervisor,) = psutil.Process(server.pid).children()
    workers = set(supervisor.children())
    assert len(workers) == 2
    before = server.get("/pid").text
    since = server.mark()
    for _ in range(5):
        server.get("/orphans")
    # Three each: two that exit as a worker does whose start failed, and one that is killed.
    eventually(lambda: server.stderr()[since:].count("an orphan") == 15, "all reaped", LONG)
    assert set(supervisor.children(recursive=True)) == workers
    assert "Started worker" not in server.stderr()[since:]
    assert before in {server.get("/pid").text for _ in range(20)}
    supervisor.terminate()
    assert server.wait(LONG) == 0


def test_process_1_stops_and_replaces_like_any_other(serve: Serve) -> None:
    server = serve(APP, workers=2, prefix=PREFIX)
    (supervisor,) = psutil.Process(server.pid).children()
    victim = supervisor.children()[0]
    victim.kill()
    eventually(
        lambda: len(supervisor.children()) == 2 and victim not in supervisor.children(),
        "another worker",
        LONG,
    )
    assert server.get("/pid").status_code == 200
    supervisor.terminate()
    assert server.wait(LONG) == 0
