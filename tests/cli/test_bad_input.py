"""Whatever the user types wrongly: one clear message, the right exit status, nothing left running.

Exit status: 2 for a wrong command line, 3 for an application or an address that cannot be used.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = rsgi_only("has its own exit statuses and loops with several workers")

SOURCES = {
    "wsgi_app": "def app(environ, start_response):\n    return [b'']\n",
    "number_app": "app = 3\n",
    "text_app": "app = 'text'\n",
    "raising_app": "def boom():\n    raise KeyError('SETTING')\n\nboom()\n",
    "syntax_app": "async def app(scope, receive, send)\n    pass\n",
    "missing_import_app": "import a_module_that_is_not_there\n",
    "exiting_app": "import sys\nsys.exit(5)\n",
    "printing_app": "async def app(scope, receive, send):\n    raise NotImplementedError\n",
    "no_arguments_app": "async def app():\n    pass\n",
}


@dataclass(frozen=True)
class Mistake:
    """What was typed, what must be said, and the exit status."""

    target: str
    says: tuple[str, ...]
    status: int = 3


MISTAKES = {
    "module-not-found": Mistake("no_such_module:app", ("no_such_module",)),
    "submodule-not-found": Mistake("tests.apps.nothing:app", ("tests.apps.nothing",)),
    "attribute-not-found": Mistake("number_app:nothing", ("nothing", "number_app")),
    "nested-attribute-not-found": Mistake("number_app:app.nothing", ("nothing",)),
    "not-callable": Mistake("number_app:app", ("call", "number_app:app")),
    "text-is-not-callable": Mistake("text_app:app", ("call",)),
    "wsgi": Mistake("wsgi_app:app", ("WSGI",)),
    "raising": Mistake("raising_app:app", ("KeyError: 'SETTING'", "raising_app.py", "boom")),
    "syntax-error": Mistake("syntax_app:app", ("SyntaxError", "syntax_app.py", "line 1")),
    "import-inside": Mistake(
        "missing_import_app:app", ("a_module_that_is_not_there", "missing_import_app.py")
    ),
    "exiting": Mistake("exiting_app:app", ("exiting_app",)),
    "empty": Mistake("", ("app",), status=2),
    "path-instead-of-module": Mistake("./number_app.py", ("number_app",), status=3),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, source in SOURCES.items():
        (tmp_path / f"{name}.py").write_text(source)
    return tmp_path


def fail(serve: Serve, directory: Path, target: str, *flags: str, workers: int = 1) -> Server:
    server = serve(
        target, *flags, cwd=directory, ready=False, allow_tracebacks=True, workers=workers
    )
    server.wait(deadline=20)
    return server


def exit_status(server: Server) -> int:
    return server.wait()


@pytest.mark.parametrize("name", list(MISTAKES))
def test_a_mistake_has_its_exit_status(serve: Serve, directory: Path, name: str) -> None:
    server = fail(serve, directory, MISTAKES[name].target)
    assert exit_status(server) in (
        (2, 3) if name == "path-instead-of-module" else (MISTAKES[name].status,)
    )


@pytest.mark.parametrize("name", list(MISTAKES))
def test_a_mistake_is_named(serve: Serve, directory: Path, name: str) -> None:
    text = fail(serve, directory, MISTAKES[name].target).stderr()
    assert [word for word in MISTAKES[name].says if word not in text] == []


@pytest.mark.parametrize("name", list(MISTAKES))
def test_a_mistake_leaves_nothing_running(serve: Serve, directory: Path, name: str) -> None:
    server = fail(serve, directory, MISTAKES[name].target)
    assert eventually(lambda: not server.survivors())


@pytest.mark.parametrize("name", ["module-not-found", "raising", "syntax-error", "import-inside"])
def test_a_mistake_with_four_workers_has_the_same_exit_status(
    serve: Serve, directory: Path, name: str
) -> None:
    assert exit_status(fail(serve, directory, MISTAKES[name].target, workers=4)) == 3


@pytest.mark.parametrize("name", ["raising", "syntax-error", "import-inside", "module-not-found"])
def test_a_mistake_with_four_workers_is_told_once(serve: Serve, directory: Path, name: str) -> None:
    """At most once per worker that tried, and the workers must not all have to try."""
    text = fail(serve, directory, MISTAKES[name].target, workers=4).stderr()
    assert 1 <= text.count(MISTAKES[name].says[0]) <= 8


@pytest.mark.parametrize(
    "name", ["module-not-found", "attribute-not-found", "not-callable", "wsgi"]
)
def test_a_mistake_that_is_not_the_application_s_shows_no_traceback(
    serve: Serve, directory: Path, name: str
) -> None:
    assert "Traceback" not in fail(serve, directory, MISTAKES[name].target).stderr()


@pytest.mark.parametrize("name", ["raising", "import-inside", "syntax-error"])
@pytest.mark.parametrize("hidden", ["importlib", "rsgi/", "runpy", "<frozen"])
def test_a_traceback_shows_the_user_s_frames_only(
    serve: Serve, directory: Path, name: str, hidden: str
) -> None:
    text = fail(serve, directory, MISTAKES[name].target).stderr()
    frames = [line for line in text.splitlines() if line.lstrip().startswith("File ")]
    assert [frame for frame in frames if hidden in frame] == []


@pytest.mark.parametrize("flags", [("--nonsense",), ("--port", "http"), ("--workers", "-1")])
def test_a_wrong_flag_is_a_usage_error(
    serve: Serve, directory: Path, flags: tuple[str, ...]
) -> None:
    assert exit_status(fail(serve, directory, "printing_app:app", *flags)) == 2


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--nonsense",), "--nonsense"),
        (("--worker", "2"), "--workers"),
        (("--port", "http"), "http"),
        (("--port", "70000"), "70000"),
        (("--lifespan", "maybe"), "auto"),
        (("--log-level", "loud"), "loud"),
        (("--limit-concurrency", "many"), "many"),
        (("--timeout-keep-alive", "soon"), "soon"),
    ],
)
def test_a_wrong_flag_is_named(
    serve: Serve, directory: Path, flags: tuple[str, ...], says: str
) -> None:
    assert says in fail(serve, directory, "printing_app:app", *flags).stderr()


@pytest.mark.parametrize("flags", [("--threads", "4"), ("--threads=2",)])
def test_threads_are_refused_with_the_reason(
    serve: Serve, directory: Path, flags: tuple[str, ...]
) -> None:
    server = fail(serve, directory, "printing_app:app", *flags)
    assert exit_status(server) == 2
    assert "--workers" in server.stderr()


def test_a_usage_error_is_short(serve: Serve, directory: Path) -> None:
    text = fail(serve, directory, "printing_app:app", "--nonsense").stderr()
    assert len(text.splitlines()) < 15
    assert "Traceback" not in text


def test_a_port_in_use_is_named(serve: Serve, directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        server = fail(serve, directory, "printing_app:app", "--port", port)
    assert exit_status(server) == 3
    assert port in server.stderr()
    assert "Traceback" not in server.stderr()


def test_an_address_that_is_not_ours_is_named(serve: Serve, directory: Path) -> None:
    server = fail(serve, directory, "printing_app:app", "--host", "192.0.2.1")
    assert exit_status(server) == 3
    assert "192.0.2.1" in server.stderr()


def test_a_host_that_does_not_resolve_is_named(serve: Serve, directory: Path) -> None:
    server = fail(serve, directory, "printing_app:app", "--host", "nowhere.invalid")
    assert exit_status(server) == 3
    assert "nowhere.invalid" in server.stderr()


def test_a_socket_path_without_directory_is_named(serve: Serve, directory: Path) -> None:
    path = str(directory / "missing" / "s")
    server = fail(serve, directory, "printing_app:app", "--uds", path)
    assert exit_status(server) == 3
    assert path in server.stderr()


def test_a_file_that_is_no_socket_is_not_overwritten(serve: Serve, directory: Path) -> None:
    path = directory / "precious"
    path.write_text("data")
    server = fail(serve, directory, "printing_app:app", "--uds", str(path))
    assert exit_status(server) == 3
    assert path.read_text() == "data"


def test_an_fd_that_is_not_open_is_named(serve: Serve, directory: Path) -> None:
    server = fail(serve, directory, "printing_app:app", "--fd", "77")
    assert exit_status(server) in (2, 3)
    assert "77" in server.stderr()


def test_a_broken_factory_shows_its_traceback(serve: Serve) -> None:
    server = serve("tests.apps.factory:broken", "--factory", ready=False, allow_tracebacks=True)
    assert server.wait(deadline=20) == 3
    assert "LookupError: the factory has no parts" in server.stderr()
