"""A project in a directory of its own, served with `--reload`."""

from __future__ import annotations

import re
import textwrap
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.support.server import Server
from tests.support.waiting import eventually

#: A loaded machine starts an interpreter in seconds.
LONG = 40.0

_SOURCE = """
import asyncio, os, sys

async def app(scope, receive, send):
    kind = scope["type"]
    if kind == "lifespan":
        while True:
            message = (await receive())["type"]
            await send({"type": f"{message}.complete"})
            if message == "lifespan.shutdown":
                return
    if kind == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await asyncio.sleep(3600)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"data: begun\\n\\n", "more_body": True})
        await asyncio.sleep(3600)
    body = b"VERSION" if scope["path"] == "/" else str(os.getpid()).encode()
    await send({"type": "http.response.body", "body": body})
"""


def source(version: str) -> str:
    """Return an application that answers with its version; it never ends streams by itself."""
    return textwrap.dedent(_SOURCE).replace("VERSION", version)


class Project:
    """The files, and the server that watches them."""

    def __init__(self, directory: Path, serve: Serve) -> None:
        """Write the first version."""
        self.directory = directory
        self.main = directory / "main.py"
        self._serve = serve
        self.server: Server
        self.save("first")

    def serve(
        self,
        *flags: str,
        workers: int = 1,
        ready: bool = True,
        env: dict[str, str] | None = None,
        app: str = "main:app",
    ) -> Server:
        """Start the server."""
        self.server = self._serve(
            app, "--reload", *flags, workers=workers, ready=False, env=env, cwd=self.directory,
            allow_tracebacks=True,
        )  # fmt: skip
        if ready:
            self.server.wait_until_ready(LONG)
        return self.server

    def save(self, version: str) -> None:
        """Save the application in place."""
        self.main.write_text(source(version))

    def replace(self, version: str) -> None:
        """Save it as many editors do: another file is renamed into its place."""
        other = self.directory / ".main.py.tmp"
        other.write_text(source(version))
        other.rename(self.main)

    def wait_for(self, version: str) -> None:
        """Wait until it answers with this version."""

        def probe() -> bool:
            # One that comes with the change itself may be cut.
            with suppress(httpx.TransportError):
                return self.server.get("/").text == version
            return False

        eventually(probe, f"version {version}", LONG)

    def changes(self) -> list[str]:
        """Return what the log says has changed, one for each reload."""
        return re.findall(r"detected changes in (.*)\. Reloading", self.server.stderr())


@pytest.fixture
def project(tmp_path: Path, serve: Serve) -> Project:
    return Project(tmp_path, serve)
