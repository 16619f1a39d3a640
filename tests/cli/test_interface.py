"""What an application speaks: found out, or said by `--interface`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only

SOURCE = """
import functools

async def answer(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    body = f"{scope['asgi']['version']} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


class Asgi2:
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        await answer(self.scope, receive, send)


def asgi2(scope):
    async def instance(receive, send):
        await answer(scope, receive, send)
    return instance


class Router:
    def __call__(self, scope):
        return asgi2(scope)


router = Router()


class Asgi3:
    async def __call__(self, scope, receive, send):
        await answer(scope, receive, send)


asgi3 = Asgi3()
partial = functools.partial(asgi3)


class Awaited:
    def __init__(self, scope, receive, send):
        self.arguments = scope, receive, send

    def __await__(self):
        return answer(*self.arguments).__await__()


def any_arguments(*arguments):
    return answer(*arguments) if len(arguments) == 3 else asgi2(*arguments)


def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"wsgi " + environ["PATH_INFO"].encode()]


class Plain:
    pass
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(SOURCE)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("answer", "3.0"),
        ("asgi3", "3.0"),
        ("Asgi2", "2.0"),
        ("asgi2", "2.0"),
        ("router", "2.0"),
        ("Awaited", "3.0"),
    ],
)
def test_the_version_of_asgi_is_found_out(
    serve: Serve, directory: Path, name: str, version: str
) -> None:
    server = serve(f"app:{name}", cwd=directory)
    assert server.get("/path").text == f"{version} /path"


@rsgi_only("takes it for an application of ASGI 2")
def test_a_partial_is_an_application_of_asgi_3(serve: Serve, directory: Path) -> None:
    assert serve("app:partial", cwd=directory).get("/").text == "3.0 /"


@pytest.mark.parametrize(("interface", "version"), [("asgi2", "2.0"), ("asgi3", "3.0")])
def test_what_is_said_is_not_found_out(
    serve: Serve, directory: Path, interface: str, version: str
) -> None:
    server = serve("app:any_arguments", "--interface", interface, cwd=directory)
    assert server.get("/").text == f"{version} /"


@rsgi_only("does not explain it")
def test_a_wsgi_application_is_told_of_its_flag(serve: Serve, directory: Path) -> None:
    server = serve("app:wsgi", cwd=directory, ready=False)
    assert server.wait() == 3
    assert "`app:wsgi` is a WSGI application: use --interface wsgi" in server.stderr()


@rsgi_only("does not explain it")
def test_an_asynchronous_application_is_no_wsgi_application(serve: Serve, directory: Path) -> None:
    server = serve("app:asgi3", "--interface", "wsgi", cwd=directory, ready=False)
    assert server.wait() == 3
    assert "`app:asgi3` is not a WSGI application" in server.stderr()


@rsgi_only("has its own WSGI")
def test_what_wsgi_needs_is_named_where_it_is_missing(serve: Serve, directory: Path) -> None:
    (directory / "a2wsgi.py").write_text("raise ModuleNotFoundError(name='a2wsgi')")
    server = serve("app:wsgi", "--interface", "wsgi", cwd=directory, ready=False)
    assert server.wait() == 3
    assert "pip install 'rsgi[wsgi]'" in server.stderr()
    assert "Traceback" not in server.stderr()


@rsgi_only("says something else")
def test_a_class_that_is_no_application_is_named(serve: Serve, directory: Path) -> None:
    server = serve("app:Plain", cwd=directory, ready=False)
    assert server.wait() == 3
    assert "`app:Plain` is a class, not an application" in server.stderr()
