"""Commands written for other servers start as they stand, and so do their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only

pytestmark = rsgi_only("is one of the other servers")

APP = "tests.apps.echo:app"
SOURCE = """
import os

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    text = " ".join([os.getcwd(), os.environ.get("MODE", ""), os.environ.get("OTHER", "")])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
"""
CONF = """
import json
import multiprocessing
import os

host = os.environ.get("HOST_OF_TEST", "127.0.0.1")
port = "0"
bind = f"{host}:{port}"
workers = min(multiprocessing.cpu_count() * 2 + 1, 2)
worker_class = "uvicorn.workers.UvicornWorker"
keepalive = 75
raw_env = ["MODE=conf"]

def post_fork(server, worker):
    raise AssertionError("hooks are not called")

print(json.dumps({"workers": workers}))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(SOURCE)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "workers"),
    [
        (
            "--bind 0.0.0.0:0 -w 4 --access-logfile - --error-logfile - --timeout 600 app:app",
            4,
        ),
        (
            "--workers 3 --worker-class uvicorn.workers.UvicornWorker --timeout 600 app:app "
            "--port 0",
            3,
        ),
        ("app:app --host 0.0.0.0 --workers 5 --port 0", 5),
    ],
)
def test_a_usual_command_starts_as_it_stands(
    serve: Serve, directory: Path, line: str, workers: int
) -> None:
    first, *rest = line.split()
    server = serve(first, *rest, cwd=directory, bind=False)
    server.wait_for_workers(workers)
    assert server.get("/").status_code == 200


def test_a_configuration_of_gunicorn_is_read(serve: Serve, directory: Path) -> None:
    (directory / "gunicorn.conf.py").write_text(CONF)
    server = serve("-c", "gunicorn.conf.py", "app:app", cwd=directory, bind=False)
    server.wait_for_workers(2)
    assert server.get("/").text == f"{directory} conf "
    assert "gunicorn.conf.py: no effect here: post_fork, worker_class" in server.stderr()
    assert server.stdout().count("workers") == 0


def test_a_configuration_of_gunicorn_is_not_found_by_itself(serve: Serve, directory: Path) -> None:
    (directory / "gunicorn.conf.py").write_text("raise SystemExit(1)")
    assert serve("app:app", cwd=directory).get("/").status_code == 200


def test_a_configuration_can_be_a_module(serve: Serve, directory: Path) -> None:
    (directory / "settings.py").write_text("from helper import workers\n")
    (directory / "helper.py").write_text("workers = 2\n")
    server = serve("-c", "python:settings", "app:app", cwd=directory)
    server.wait_for_workers(2)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("boom = {}['SETTING']\n", 'File "gunicorn.conf.py", line 1, in <module>'),
        ("boom = {}['SETTING']\n", "KeyError: 'SETTING'"),
        ("workers = \n", "SyntaxError"),
        ("import sys\nsys.exit(4)\n", "SystemExit: 4"),
        ("\nworkers = 'many'\n", "gunicorn.conf.py:2 workers: expected a whole number"),
        ("import os\nos._exit(4)\n", "reading it ended with exit status: 4"),
        ("import signal\nsignal.raise_signal(signal.SIGALRM)\n", "signal: 14"),
    ],
)
def test_a_configuration_that_fails_is_a_usage_error(
    serve: Serve, directory: Path, source: str, says: str
) -> None:
    (directory / "gunicorn.conf.py").write_text(source)
    server = serve(
        "-c", "gunicorn.conf.py", "app:app", cwd=directory, ready=False, allow_tracebacks=True
    )
    assert server.wait(deadline=30) == 2
    assert says in server.stderr()
    assert "_settings_file" not in server.stderr()


def test_a_missing_configuration_is_named(serve: Serve, directory: Path) -> None:
    server = serve("-c", "none.py", "app:app", cwd=directory, ready=False)
    assert server.wait(deadline=30) == 2
    assert "none.py: cannot be read: No such file" in server.stderr()


def test_a_file_of_settings_is_read(serve: Serve, directory: Path) -> None:
    (directory / "rsgi.toml").write_text('app = "app:app"\nport = 0\nworkers = 2\n')
    server = serve("--lifespan", "off", cwd=directory, bind=False)
    server.wait_for_workers(2)
    assert server.get("/").status_code == 200


def test_a_table_of_the_project_is_read(serve: Serve, directory: Path) -> None:
    (directory / "pyproject.toml").write_text('[tool.rsgi]\nenv = ["MODE=project"]\n')
    assert serve("app:app", cwd=directory).get("/").text == f"{directory} project "


def test_a_variable_of_uvicorn_sets_what_its_flag_sets(serve: Serve, directory: Path) -> None:
    environment = {"UVICORN_PORT": "0", "UVICORN_WORKERS": "2"}
    server = serve("app:app", cwd=directory, bind=False, env=environment)
    server.wait_for_workers(2)
    assert server.get("/").status_code == 200


def test_variables_of_a_file_reach_workers_and_settings(serve: Serve, directory: Path) -> None:
    (directory / ".env").write_text("MODE=file\nOTHER='a file'\nRSGI_WORKERS=2\n")
    server = serve("app:app", "--env-file", ".env", cwd=directory, env={"MODE": "already"})
    server.wait_for_workers(2)
    assert server.get("/").text == f"{directory} already a file"


def test_another_directory_is_served_from(serve: Serve, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "other.py").write_text(SOURCE)
    server = serve("other:app", "--chdir", "below", cwd=directory)
    assert server.get("/").text.startswith(f"{tmp_path / 'below'} ")


def test_a_directory_that_is_not_there_is_named(serve: Serve, directory: Path) -> None:
    server = serve("app:app", "--chdir", "none", cwd=directory, ready=False)
    assert server.wait(deadline=30) == 3
    assert str(directory / "none") in server.stderr()


def test_python_s_path_gets_directories(serve: Serve, directory: Path) -> None:
    (directory / "lib").mkdir()
    (directory / "lib" / "far.py").write_text(SOURCE)
    server = serve("far:app", "--pythonpath", "lib", cwd=directory)
    assert server.get("/").status_code == 200


def test_settings_are_checked_without_serving(serve: Serve, directory: Path) -> None:
    server = serve("app:app", "--check-config", cwd=directory, ready=False)
    assert server.wait(deadline=30) == 0
    assert server.stdout() == "the settings are right\n"
    (directory / "rsgi.toml").write_text("wokers = 2\n")
    server = serve("app:app", "--check-config", "--port", "x", cwd=directory, ready=False)
    assert server.wait(deadline=30) == 2
    assert "rsgi.toml:1: unknown setting `wokers`; did you mean workers?" in server.stderr()
    assert "--port: expected a port" in server.stderr()


def test_settings_are_printed(serve: Serve, directory: Path) -> None:
    (directory / "rsgi.toml").write_text("\nworkers = 2\n")
    server = serve("--print-config", cwd=directory, ready=False)
    assert server.wait(deadline=30) == 0
    assert "# rsgi.toml:2 workers" in server.stdout()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_written(serve: Serve, shell: str) -> None:
    server = serve("--completions", shell, ready=False, bind=False)
    assert server.wait(deadline=30) == 0
    assert "timeout-keep-alive" in server.stdout()
