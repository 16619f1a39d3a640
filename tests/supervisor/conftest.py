"""A server that another program starts, by becoming it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import pytest

from tests.conftest import Serve
from tests.supervisor.admin import Admin, started
from tests.support.server import Server


class ServeUnder(Protocol):
    """Start a server through a program that ends in `exec`."""

    def __call__(
        self, wrapper: Sequence[str], app: str, *flags: str, ready: bool = True, **options: Any
    ) -> Server:
        """Return the running server."""


class Wrapped(Server):
    """A server whose command line follows another one."""

    def __init__(self, wrapper: Sequence[str], app: str, *flags: str, **options: Any) -> None:
        """Start the wrapper, which becomes the server."""
        self._wrapper = wrapper
        super().__init__(app, *flags, **options)

    def _start(
        self,
        stdout: IO[bytes],
        stderr: IO[bytes],
        environment: dict[str, str],
        cwd: Path,
        pass_fds: tuple[int, ...],
    ) -> subprocess.Popen[bytes]:
        self.command = [*self._wrapper, *self.command]
        return super()._start(stdout, stderr, environment, cwd, pass_fds)


@pytest.fixture
def serve_under(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeUnder]:
    """Start servers under a wrapper that end with the test."""
    servers: list[Server] = []

    def start(
        wrapper: Sequence[str], app: str, *flags: str, ready: bool = True, **options: Any
    ) -> Server:
        server = Wrapped(wrapper, app, *flags, logs=tmp_path_factory.mktemp("server"), **options)
        servers.append(server)
        if ready:
            server.wait_until_ready()
        return server

    yield start
    for server in servers:
        server.hang_up()
        server.destroy()
    complaints = [line for server in servers for line in server.complaints()]
    assert not complaints, "\n".join(["unexpected in the log:", *complaints])


@pytest.fixture
def running(serve: Serve) -> tuple[Server, Admin]:
    """Return a server of two workers and its admin listener."""
    return started(serve, workers=2)
