"""Fixtures: a server of one's own (`serve`), or one for all who only send requests (`shared`)."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.support import flavour
from tests.support.server import ROOT, Server


class Serve(Protocol):
    """Start a server for this test and wait until it is ready."""

    def __call__(
        self,
        app: str,
        *flags: str,
        workers: int = 1,
        env: dict[str, str] | None = None,
        cwd: Path = ROOT,
        allow_tracebacks: bool = False,
        pass_fds: tuple[int, ...] = (),
        bind: bool = True,
        prefix: tuple[str, ...] = (),
        ready: bool = True,
    ) -> Server:
        """Return the running server."""


Shared = Callable[..., Server]


def pytest_configure() -> None:
    """Let a termination of the test run end it in order, so that no server is left behind.

    A shell starts background jobs with INT ignored, and what they start inherits that: the tests
    that send it would wait for ever.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Say in the report which server is under test."""
    return f"server under test: {flavour.NAME}"


def _refuse_complaints(servers: list[Server], request: pytest.FixtureRequest) -> None:
    if not flavour.IS_RSGI and request.node.get_closest_marker("xfail"):
        return
    complaints = [line for server in servers for line in server.complaints()]
    assert not complaints, "\n".join(["unexpected in the log:", *complaints])


@pytest.fixture
def serve(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Serve]:
    """Start servers that end with the test; fail it if one of them wrote what it must not."""
    servers: list[Server] = []

    def start(app: str, *flags: str, ready: bool = True, **options: Any) -> Server:
        flavour.skip_unless_known(flags)
        server = Server(app, *flags, logs=tmp_path_factory.mktemp("server"), **options)
        servers.append(server)
        if ready:
            server.wait_until_ready()
        return server

    yield start
    for server in servers:
        server.hang_up()
        server.destroy()
    _refuse_complaints(servers, request)


@pytest.fixture(scope="session")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    servers: dict[tuple[str, ...], Server] = {}

    def obtain(app: str, *flags: str, allow_tracebacks: bool = False) -> Server:
        flavour.skip_unless_known(flags)
        key = (app, *flags, str(allow_tracebacks))
        server = servers.get(key)
        if server is None or not server.is_running():
            server = servers[key] = Server(
                app,
                *flags,
                logs=tmp_path_factory.mktemp("shared"),
                allow_tracebacks=allow_tracebacks,
            )
            server.wait_until_ready()
        return server

    yield obtain
    for server in servers.values():
        server.destroy()


@pytest.fixture
def shared(_running: Shared, request: pytest.FixtureRequest) -> Iterator[Shared]:
    """Return a server that other tests with this application and flags use, too."""
    used: list[Server] = []

    def obtain(app: str, *flags: str, allow_tracebacks: bool = False) -> Server:
        server = _running(app, *flags, allow_tracebacks=allow_tracebacks)
        used.append(server)
        server.complaints()
        return server

    yield obtain
    for server in used:
        server.hang_up()
    _refuse_complaints(used, request)
    for server in used:
        assert server.is_running(), f"the server died\n{server.stderr()[-2000:]}"


@pytest.fixture
def key() -> str:
    """Return a name that no other test uses, for the journal of a scenario."""
    return uuid.uuid4().hex
