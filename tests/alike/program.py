"""A program that calls `run()` of one of the two servers, and what is seen of it from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.server import ROOT
from tests.support.waiting import eventually
from tests.support.wire import Response, Wire

#: A machine under load takes seconds to start an interpreter.
PATIENCE = 40.0

_SOURCE = """\
import sys
import warnings
from pathlib import PosixPath
import {server} as server
from tests.apps import alike

warnings.simplefilter("ignore")  # uvicorn's about what it deprecates
alike.MARK.set("set before the start")
server.run({app}, **{keywords!r})
print("RETURNED", file=sys.stderr, flush=True)
"""


class Program:
    """One of the servers with the keywords of a row."""

    def __init__(
        self,
        server: str,
        app: str,
        keywords: dict[str, Any],
        directory: Path,
        env: dict[str, str],
    ) -> None:
        """Start it; unless the keywords say where, it listens on a socket that it is given."""
        self.server = server
        self.directory = directory
        self.keywords = dict(keywords)
        self._listener: socket.socket | None = None
        self._wires: list[Wire] = []
        if not {"host", "port", "uds", "fd"} & keywords.keys():
            self.keywords["fd"] = -1
        pass_fds: tuple[int, ...] = ()
        if self.keywords.get("fd") == -1:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.keywords["fd"] = self._listener.fileno()
            pass_fds = (self._listener.fileno(),)
        source = _SOURCE.format(server=server, app=app, keywords=self.keywords)
        with self._file("out").open("wb") as out, self._file("err").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", source],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=directory,
                env={**_clean_environment(), "PYTHONPATH": str(ROOT), **env},
                pass_fds=pass_fds,
                start_new_session=True,
            )

    def _file(self, name: str) -> Path:
        return self.directory / f"{self.server}.{name}"

    @property
    def address(self) -> tuple[str, int] | str:
        """Where it listens; waits until that is known."""
        if self._listener is not None:
            host, port = self._listener.getsockname()[:2]
            return host, port
        if "uds" in self.keywords:
            path = Path(self.keywords["uds"])
            self.wait_for(path.exists, "the socket")
            return str(path)
        found = self.wait_for(
            lambda: re.search(r"running on \w+://(\S+):(\d+)", self.err()), "address"
        )
        return found[1], int(found[2])

    def connect(
        self,
        timeout: float = PATIENCE,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
    ) -> Wire:
        """Connect, once somebody listens."""
        address = self.address

        def connect() -> Wire | None:
            try:
                wire = Wire(address, timeout, receive_buffer, send_buffer)
            except (ConnectionRefusedError, FileNotFoundError):
                return None  # bound, and not listening yet
            self._wires.append(wire)
            return wire

        wire: Wire = self.wait_for(connect, "a connection")
        return wire

    def get(self, target: str = "/", headers: tuple[tuple[str, str], ...] = ()) -> Response:
        """Send one request."""
        with self.connect() as wire:
            return wire.get(target, headers)

    def about(self, target: str = "/", headers: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
        """Return what the application says about its scope and its process."""
        about: dict[str, Any] = json.loads(self.get(target, headers).body)
        return about

    def wait_for(self, probe: Any, what: str) -> Any:
        """Wait for something while the program runs."""

        def alive() -> Any:
            found = probe()
            assert found or self.process.poll() is None, f"{self.server} ended: {self.err()}"
            return found

        try:
            return eventually(alive, f"{what} ({self.server})", PATIENCE)
        except AssertionError as error:
            error.add_note(self.err())
            raise

    def wait_for_log(self, text: str) -> None:
        """Wait for a text in what it writes to standard error."""
        self.wait_for(lambda: text in self.err(), repr(text))

    def out(self) -> str:
        """Return what it has written to standard output."""
        return self._file("out").read_text(errors="replace")

    def err(self) -> str:
        """Return what it has written to standard error."""
        return self._file("err").read_text(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, and return the exit status."""
        return self.process.wait(PATIENCE)

    def destroy(self) -> None:
        """End it and whatever it has started."""
        for wire in self._wires:
            wire.close()
        if self._listener is not None:
            self._listener.close()
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


def _clean_environment() -> dict[str, str]:
    ours = ("RSGI_", "UVICORN_")
    known = {"FORWARDED_ALLOW_IPS", "WEB_CONCURRENCY", "PORT", "NO_COLOR", "FORCE_COLOR"}
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours) and name not in known
    }
