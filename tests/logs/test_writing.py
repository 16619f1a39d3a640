"""Where lines go: a reader that does not read, one that has gone, a full disk, files moved away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.server import ROOT, Server
from tests.support.waiting import eventually

APP = "tests.apps.logged:app"
PATIENCE = 30.0
# More than a pipe (64 KiB) and the server's own buffer (1 MiB) hold, with lines of 500 bytes.
MANY = 4000

pytestmark = rsgi_only("blocks, or fails")


def ask_often(server: Server, count: int = MANY) -> None:
    """Send requests in batches, and wait for every answer."""
    target = "/?" + "x" * 400
    request = f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with server.connect(timeout=PATIENCE) as wire:
        for _ in range(0, count, 50):
            wire.send(request * 50)
            for _ in range(50):
                assert wire.read_response().status == 200


class Pipe:
    """A named pipe and its reading end, which is read only when asked to."""

    def __init__(self, path: Path) -> None:
        """Make it."""
        os.mkfifo(path)
        self.path = path
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._text = b""

    def lines(self) -> list[str]:
        """Empty it, and return all whole lines so far."""
        with suppress(BlockingIOError):
            while piece := os.read(self._reader, 1 << 16):
                self._text += piece
        return self._text.decode().split("\n")[:-1]

    def wait_for(self, text: str) -> list[str]:
        """Read until a line has the text in it; return all lines."""

        def probe() -> list[str]:
            lines = self.lines()
            return lines if any(text in line for line in lines) else []

        return eventually(probe, f"{text!r} in the pipe", PATIENCE)

    def close(self) -> None:
        """Leave."""
        os.close(self._reader)


@pytest.mark.parametrize("stream", ["stdout", "file"])
def test_a_reader_that_does_not_read_holds_nobody_up(
    serve: Serve, tmp_path: Path, stream: str
) -> None:
    pipe = Pipe(tmp_path / "pipe")
    if stream == "file":
        server = serve(APP, "--log-format", "json", "--access-logfile", str(pipe.path))
    else:
        redirected = ("sh", "-c", 'exec "$@" > "$0"', str(pipe.path))
        server = serve(APP, "--log-format", "json", prefix=redirected)
    ask_often(server)
    assert "were lost" not in server.stderr()

    def said() -> list[str]:
        pipe.lines()
        return [line for line in server.stderr().splitlines() if "were lost" in line]

    # Without another request: the server finds out by itself that there is room.
    lost = json.loads(eventually(said, "the number of lost lines", PATIENCE)[0])["message"]
    assert server.get("/?last").status_code == 200
    found = [json.loads(line) for line in pipe.wait_for("last")]
    pipe.close()
    count = int(lost.split()[0])
    assert count > 0
    assert len(found) == MANY + 1 - count


def test_a_reader_that_has_gone_is_said_once(serve: Serve, tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "pipe")
    server = serve(APP, "--access-logfile", str(pipe.path))
    server.get("/")
    pipe.wait_for("GET")
    pipe.close()
    for _ in range(3):
        assert server.get("/").status_code == 200
    server.wait_for_log("ERROR:    cannot write the access log.*Broken pipe")
    assert server.stderr().count("cannot write the access log") == 1
    assert server.stop() == 0


def test_a_full_disk_is_said_once_and_serving_goes_on(serve: Serve) -> None:
    server = serve(APP, "--access-logfile", "/dev/full")
    for _ in range(3):
        assert server.get("/").status_code == 200
    server.wait_for_log("ERROR:    cannot write the access log.*No space left")
    assert server.stderr().count("cannot write the access log") == 1
    assert server.stop() == 0


def test_an_error_log_that_cannot_be_written_is_said_on_standard_error(
    serve: Serve, tmp_path: Path
) -> None:
    uds = tmp_path / "socket"
    server = serve(APP, "--error-logfile", "/dev/full", "--uds", str(uds), ready=False)
    server.wait_for_log("ERROR:    cannot write the log file.*No space left")
    eventually(uds.exists, "the socket", PATIENCE)
    server.addresses = [str(uds)]
    assert server.get("/health").text == "fine"
    assert server.stop() == 0


PROGRAM = """
    import os, rsgi
    from tests.apps.logged import app
    rsgi.run(app, port=0, access_logfile={access!r}, error_logfile={error!r})
"""

SERVER = """
    import asyncio, rsgi
    from tests.apps.logged import app
    config = rsgi.Config(app, port=0, access_logfile={access!r}, error_logfile={error!r})
    with asyncio.Runner(loop_factory=rsgi.new_event_loop) as runner:
        runner.run(rsgi.Server(config).serve())
"""


@pytest.mark.parametrize("source", [PROGRAM, SERVER])
def test_a_program_that_serves_opens_its_files_anew_on_usr1(tmp_path: Path, source: str) -> None:
    access, error = tmp_path / "access.log", tmp_path / "error.log"
    source = textwrap.dedent(source).format(access=str(access), error=str(error))
    process = subprocess.Popen([sys.executable, "-c", source], cwd=ROOT)
    try:
        server = eventually(lambda: announced(error), "an address", PATIENCE)
        ask(server, "/?before")
        eventually(lambda: "before" in access.read_text(), "a line", PATIENCE)
        for path in (access, error):
            path.rename(path.with_suffix(".old"))
        process.send_signal(signal.SIGUSR1)
        eventually(lambda: access.exists() and error.exists(), "new files", PATIENCE)
        ask(server, "/?behind")
        eventually(lambda: "behind" in access.read_text(), "a line", PATIENCE)
        assert "before" not in access.read_text()
        process.terminate()
        process.wait(PATIENCE)
        assert "Finished server process" in error.read_text()
    finally:
        process.kill()
        process.wait()


def announced(path: Path) -> int:
    """Return the port in a log, or 0."""
    text = path.read_text() if path.exists() else ""
    _, found, rest = text.partition("running on http://127.0.0.1:")
    return int(rest.split()[0]) if found and " (Press" in rest else 0


def ask(port: int, target: str) -> None:
    """Send one request."""
    import httpx

    url = f"http://127.0.0.1:{port}{target}"
    assert httpx.get(url, trust_env=False, timeout=PATIENCE).status_code == 200
