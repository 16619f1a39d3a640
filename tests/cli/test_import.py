"""How the application is named and found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.flavour import NAME, command, rsgi_only
from tests.support.server import ROOT

SOURCE = """
import os

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": (__name__ + " " + os.getcwd()).encode()})

application = app

class holder:
    nested = staticmethod(app)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "my_app.py").write_text(SOURCE)
    (tmp_path / "only_application.py").write_text(
        SOURCE.replace("async def app", "async def _app")
        .replace("= app", "= _app")
        .replace("(app)", "(_app)")
    )
    return tmp_path


def test_module_and_attribute(serve: Serve, directory: Path) -> None:
    assert serve("my_app:app", cwd=directory).get("/").text == f"my_app {directory}"


def test_nested_attribute(serve: Serve, directory: Path) -> None:
    assert serve("my_app:holder.nested", cwd=directory).get("/").status_code == 200


@rsgi_only("refuses a bare module")
def test_a_bare_module_means_its_app(serve: Serve, directory: Path) -> None:
    assert serve("my_app", cwd=directory).get("/").status_code == 200


@rsgi_only("refuses a bare module")
def test_a_bare_module_without_app_means_its_application(serve: Serve, directory: Path) -> None:
    assert serve("only_application", cwd=directory).get("/").status_code == 200


def test_app_dir_is_searched(serve: Serve, directory: Path) -> None:
    server = serve("my_app:app", "--app-dir", str(directory), cwd=ROOT)
    assert server.get("/").text == f"my_app {ROOT}"


def test_app_dir_is_searched_by_every_worker(serve: Serve, directory: Path) -> None:
    server = serve("my_app:app", "--app-dir", str(directory), cwd=ROOT, workers=2)
    assert server.get("/").status_code == 200


def test_factory_is_called(serve: Serve) -> None:
    assert serve("tests.apps.factory:create", "--factory").get("/").status_code == 200


def test_factory_is_called_in_every_worker(serve: Serve) -> None:
    server = serve("tests.apps.factory:create", "--factory", workers=2)
    assert server.get("/").status_code == 200


@rsgi_only("has no such form")
def test_a_factory_call_can_be_written_into_the_name(serve: Serve) -> None:
    assert serve("tests.apps.factory:create()").get("/").status_code == 200


def test_an_instance_is_an_application(serve: Serve) -> None:
    assert serve("tests.apps.factory:instance").get("/").status_code == 200


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_information_goes_to_stdout_with_status_0(flag: str, tmp_path: Path, serve: Serve) -> None:
    server = serve(flag, ready=False, bind=False)
    assert server.wait() == 0
    assert NAME in server.stdout().lower()
    assert command()[1:] == ["-m", NAME]


def test_the_app_can_come_from_the_environment(serve: Serve) -> None:
    variable = f"{NAME.upper()}_APP"
    server = serve("--lifespan", "off", env={variable: "tests.apps.echo:app"})
    assert server.get("/").status_code == 200


def test_a_flag_can_come_from_the_environment(serve: Serve) -> None:
    variable = f"{NAME.upper()}_ROOT_PATH"
    server = serve("tests.apps.scope:app", env={variable: "/from-env"})
    assert "/from-env" in server.get("/").text


def test_a_flag_wins_over_the_environment(serve: Serve) -> None:
    variable = f"{NAME.upper()}_ROOT_PATH"
    server = serve("tests.apps.scope:app", "--root-path", "/from-flag", env={variable: "/from-env"})
    assert "/from-flag" in server.get("/").text


def test_web_concurrency_sets_the_workers(serve: Serve) -> None:
    server = serve("tests.apps.echo:app", env={"WEB_CONCURRENCY": "2"})
    server.wait_for_workers(2)
