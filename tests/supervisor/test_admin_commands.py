"""`rsgi status` and `rsgi health`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.supervisor.admin import APP, PATIENCE, Admin, started
from tests.support.flavour import rsgi_only
from tests.support.server import ROOT, Server

pytestmark = rsgi_only("has no admin listener")


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
