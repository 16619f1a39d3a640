"""HUP under load, onto new code and onto code that does not start; recycling under load.

The suite's load is small. The bar is `RSGI_TEST_RELOADS=20 RSGI_TEST_CONNECTIONS=64`.
"""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.load import Load
from tests.support.server import Server
from tests.support.waiting import eventually

APP = "tests.apps.stopping:app"
RELOADS = int(os.environ.get("RSGI_TEST_RELOADS", "3"))
CONNECTIONS = int(os.environ.get("RSGI_TEST_CONNECTIONS", "16"))
LONG = 30.0

pytestmark = [rsgi_only("loses requests when a worker leaves"), pytest.mark.timeout(180)]


def reload(server: Server) -> None:
    since = server.mark()
    server.signal(signal.SIGHUP)
    server.wait_for_log("Reload complete", since, deadline=LONG)


def test_reloads_in_a_row_under_load_lose_nothing(serve: Serve) -> None:
    server = serve(APP, "--no-access-log", workers=2)
    with Load(server.address, CONNECTIONS) as load:
        eventually(lambda: load.answered > CONNECTIONS, deadline=LONG)
        for _ in range(RELOADS):
            reload(server)
    print(f"{RELOADS} reloads, {load.answered} requests, {len(load.losses)} lost")  # noqa: T201
    assert load.losses == []
    assert len(load.pids) >= 2 * RELOADS
    assert server.stop(LONG) == 0


def test_connections_that_pause_between_requests_lose_nothing_either(serve: Serve) -> None:
    """Most connections are idle when their worker is told to drain."""
    server = serve(APP, "--no-access-log", workers=2)
    with Load(server.address, CONNECTIONS, pause=0.2) as load:
        eventually(lambda: load.answered > CONNECTIONS, deadline=LONG)
        reload(server)
    assert load.losses == []


def test_recycling_under_load_loses_nothing(serve: Serve) -> None:
    server = serve(APP, "--no-access-log", "--limit-max-requests", "500", workers=2)
    with Load(server.address, CONNECTIONS) as load:
        eventually(lambda: len(load.pids) >= 6, "six workers, one after the other", LONG)
    assert load.losses == []
    reasons = server.wait_for_log(r"Replacing Worker \d \[\d+\] \(requests: \d+ answered.*\)")
    served = int(reasons.split("requests: ")[1].split()[0])
    assert 500 <= served <= 550
    assert reasons.endswith("--limit-max-requests is 500)")


def write_app(directory: Path, says: str) -> None:
    (directory / "swapped.py").write_text(
        textwrap.dedent(
            f"""
            import os
            async def app(scope, receive, send):
                body = str(os.getpid()).encode() if scope["path"] == "/pid" else b"{says}"
                length = (b"content-length", b"%d" % len(body))
                await send({{"type": "http.response.start", "status": 200, "headers": [length]}})
                await send({{"type": "http.response.body", "body": body}})
            """
        )
    )


@pytest.fixture
def swapped(serve: Serve, tmp_path: Path) -> Server:
    """Serve code that the test can change."""
    write_app(tmp_path, "first")
    flags = ("--app-dir", str(tmp_path), "--lifespan", "off", "--no-access-log")
    # Files written within a second of each other may have the same time, and stale bytecode.
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    return serve("swapped:app", *flags, workers=2, allow_tracebacks=True, env=env)


def test_a_reload_brings_new_code(swapped: Server, tmp_path: Path) -> None:
    write_app(tmp_path, "second")
    assert swapped.get("/").text == "first"
    reload(swapped)
    assert swapped.get("/").text == "second"


def test_a_link_to_another_release_is_followed_by_the_new_workers(
    serve: Serve, tmp_path: Path
) -> None:
    current = tmp_path / "current"
    for release in ["first", "second"]:
        (tmp_path / release).mkdir()
        write_app(tmp_path / release, release)
    current.symlink_to("first")
    flags = ("--app-dir", str(current), "--lifespan", "off")
    server = serve("swapped:app", *flags, workers=2)
    assert server.get("/").text == "first"
    (tmp_path / "next").symlink_to("second")
    (tmp_path / "next").replace(current)
    reload(server)
    assert server.get("/").text == "second"


def test_code_that_does_not_start_is_not_taken_and_nobody_notices(
    swapped: Server, tmp_path: Path
) -> None:
    pids = swapped.wait_for_workers(2)
    with Load(swapped.address, 8) as load:
        eventually(lambda: load.answered > 8, deadline=LONG)
        (tmp_path / "swapped.py").write_text("def app(:\n")
        for _ in range(2):
            since = swapped.mark()
            swapped.signal(signal.SIGHUP)
            swapped.wait_for_log("SyntaxError", since, deadline=LONG)
            swapped.wait_for_log("Reload abandoned: the new worker 1 did not start", since)
            eventually(lambda: sorted(swapped.worker_pids()) == sorted(pids), deadline=LONG)
    assert load.losses == []
    assert load.pids <= set(pids)

    write_app(tmp_path, "mended")
    reload(swapped)
    assert swapped.get("/").text == "mended"
    assert swapped.stop(LONG) == 0


def test_a_stop_after_a_failed_reload_is_clean(swapped: Server, tmp_path: Path) -> None:
    (tmp_path / "swapped.py").write_text("raise RuntimeError\n")
    swapped.signal(signal.SIGHUP)
    swapped.wait_for_log("Reload abandoned", deadline=LONG)
    assert swapped.get("/").text == "first"
    assert swapped.stop(LONG) == 0


@pytest.fixture
def configured(serve: Serve, tmp_path: Path) -> Server:
    """Serve with settings and variables from files."""
    (tmp_path / "configured.py").write_text(
        textwrap.dedent(
            """
            import os
            async def app(scope, receive, send):
                body = os.environ.get("MODE", "").encode()
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": body})
            """
        )
    )
    (tmp_path / "rsgi.toml").write_text('header = ["x-set: first"]\n')
    (tmp_path / ".env").write_text("MODE=first\n")
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    flags = ("--env-file", ".env", "--no-access-log", "--lifespan", "off")
    server = serve("configured:app", *flags, cwd=tmp_path, allow_tracebacks=True, env=env)
    server.wait_for_workers(1)
    return server


def what_it_serves(server: Server) -> tuple[str, str]:
    """Return header and variable, as a worker that is started now has them."""
    [pid] = server.worker_pids()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: server.worker_pids() not in ([], [pid]), deadline=LONG)
    server.wait_for_workers(1)
    answer = eventually(lambda: server.get("/"), deadline=LONG)
    return answer.headers["x-set"], answer.text


def test_settings_that_are_wrong_leave_the_old_ones(configured: Server, tmp_path: Path) -> None:
    (tmp_path / "rsgi.toml").write_text('header = ["x-set: second"]\nworkers = "many"\n')
    (tmp_path / ".env").write_text("MODE=second\n")
    configured.signal(signal.SIGHUP)
    configured.wait_for_log("rsgi.toml:2 workers", deadline=LONG)
    assert what_it_serves(configured) == ("first", "first")


def test_settings_whose_workers_do_not_start_are_not_kept(
    configured: Server, tmp_path: Path
) -> None:
    code = (tmp_path / "configured.py").read_text()
    (tmp_path / "rsgi.toml").write_text('header = ["x-set: second"]\n')
    (tmp_path / ".env").write_text("MODE=second\n")
    (tmp_path / "configured.py").write_text("raise RuntimeError\n")
    configured.signal(signal.SIGHUP)
    configured.wait_for_log("Reload abandoned", deadline=LONG)
    (tmp_path / "configured.py").write_text(code)
    assert what_it_serves(configured) == ("first", "first")
    reload(configured)
    answer = configured.get("/")
    assert (answer.headers["x-set"], answer.text) == ("second", "second")


def test_the_supervisor_s_log_moves_with_a_reload_that_succeeds(
    serve: Serve, tmp_path: Path
) -> None:
    """A reload is told where somebody looks for it; what comes behind it, where that says."""
    settings, first, second = (tmp_path / name for name in ("rsgi.toml", "first", "second"))
    code = tmp_path / "moving.py"
    good = "async def app(scope, receive, send):\n    raise NotImplementedError\n"
    code.write_text(good)
    settings.write_text(f'error_logfile = "{first}"\n')
    flags = ("--config", str(settings), "--app-dir", str(tmp_path), "--lifespan", "off")
    server = serve("moving:app", *flags, ready=False)

    def said(path: Path, text: str) -> bool:
        return path.exists() and text in path.read_text()

    eventually(lambda: said(first, "Started server process"), "the start", LONG)
    settings.write_text(f'error_logfile = "{second}"\n')
    code.write_text("def\n")
    server.signal(signal.SIGHUP)
    eventually(lambda: said(first, "Reload abandoned"), "the failure", LONG)
    code.write_text(good)
    server.signal(signal.SIGHUP)
    eventually(lambda: said(first, "Reload complete"), "the success", LONG)
    assert server.stop(LONG) == 0
    assert said(second, "Stopped parent process")
    assert not said(first, "Stopped parent process")
