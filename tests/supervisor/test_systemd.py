"""What a service manager gives and hears: sockets, notifications, the watchdog, the pid file."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.supervisor.conftest import ServeUnder
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.waiting import DEADLINE, eventually
from tests.support.wire import Wire

APP = "tests.apps.identity:app"

pytestmark = rsgi_only("knows nothing of it")

# What systemd does: the sockets become 3 and up, and LISTEN_PID names the process itself.
PARENT = """
import os, sys
count, offset = int(sys.argv[1]), int(sys.argv[2])
sockets, command = sys.argv[3:3 + count], sys.argv[3 + count:]
for number, fd in enumerate(sockets):
    os.dup2(int(fd), 200 + number)
for number in range(count):
    os.dup2(200 + number, 3 + number)
    os.close(200 + number)
os.environ["LISTEN_PID"] = str(os.getpid() + offset)
os.environ["LISTEN_FDS"] = str(count)
os.execv(command[0], command)
"""


# Socket activation


def activated(
    serve_under: ServeUnder, sockets: list[socket.socket], *flags: str, offset: int = 0
) -> Server:
    fds = tuple(one.fileno() for one in sockets)
    wrapper = [sys.executable, "-c", PARENT, str(len(fds)), str(offset), *map(str, fds)]
    env = {"LISTEN_FDNAMES": "web:local"}
    return serve_under(wrapper, APP, *flags, pass_fds=fds, bind=False, workers=2, env=env)


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[list[socket.socket]]:
    """Yield a TCP and a Unix socket that listen."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
        unix.listen()
        yield [tcp, unix]


def test_every_socket_of_the_service_manager_is_served(
    serve_under: ServeUnder, listeners: list[socket.socket]
) -> None:
    server = activated(serve_under, listeners)
    assert server.addresses == [one.getsockname() for one in listeners]
    for address in server.addresses:
        with Wire(address) as wire:
            assert wire.get("/").status == 200
    assert "Using 2 socket(s) of the service manager (web:local)" in server.stderr()


def test_the_socket_file_of_the_service_manager_stays(
    serve_under: ServeUnder, listeners: list[socket.socket], tmp_path: Path
) -> None:
    activated(serve_under, listeners).stop()
    assert (tmp_path / "s").exists()


def test_sockets_for_another_process_are_left_alone(
    serve_under: ServeUnder, listeners: list[socket.socket]
) -> None:
    server = activated(serve_under, listeners, "--port", "0", offset=1)
    assert len(server.addresses) == 1
    assert server.address != listeners[0].getsockname()


# Notifications


class Manager:
    """The receiving end of `NOTIFY_SOCKET`."""

    def __init__(self, address: str) -> None:
        """Listen on a path, or with `@` on an abstract name."""
        self.variables = {"NOTIFY_SOCKET": address}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0"))
        self.socket.settimeout(DEADLINE)
        self.heard: list[str] = []

    def wait_for(self, line: str) -> dict[str, str]:
        """Wait for a message with this line; return what it says."""

        def is_heard() -> dict[str, str]:
            message = self.socket.recv(4096).decode()
            self.heard.append(message)
            lines = message.splitlines()
            return dict(part.split("=", 1) for part in lines) if line in lines else {}

        return eventually(is_heard, f"{line!r} in {self.heard}", deadline=30)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """Yield a service manager that listens."""
    is_path = request.param == "path"
    manager = Manager(str(tmp_path / "notify") if is_path else f"@rsgi-{uuid.uuid4().hex}")
    yield manager
    manager.socket.close()


def test_the_service_manager_hears_of_every_change(serve: Serve, manager: Manager) -> None:
    server = serve(APP, workers=2, env=manager.variables, ready=False)
    starting = manager.wait_for("STATUS=Starting, 0 of 2 workers ready")
    assert int(starting["EXTEND_TIMEOUT_USEC"]) > 60_000_000
    assert manager.wait_for("READY=1")["MAINPID"] == str(server.pid)
    manager.wait_for("STATUS=2 of 2 workers ready")

    server.signal(signal.SIGHUP)
    reloading = manager.wait_for("RELOADING=1")
    assert int(reloading["MONOTONIC_USEC"]) > 0
    manager.wait_for("READY=1")

    server.signal(signal.SIGTERM)
    stopping = manager.wait_for("STOPPING=1")
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 30_000_000
    manager.wait_for("STATUS=Stopping, 0 workers left")
    assert server.wait() == 0


def test_a_reload_that_fails_ends_as_ready(serve: Serve, tmp_path: Path) -> None:
    manager = Manager(f"@rsgi-{uuid.uuid4().hex}")
    module = tmp_path / "changing.py"
    module.write_text("from tests.apps.identity import app\n")
    flags = ("--app-dir", str(tmp_path))
    env = {**manager.variables, "PYTHONPATH": os.getcwd()}
    server = serve("changing:app", *flags, env=env, allow_tracebacks=True)
    manager.wait_for("READY=1")
    module.write_text("raise RuntimeError('not today')\n")
    server.signal(signal.SIGHUP)
    manager.wait_for("RELOADING=1")
    manager.wait_for("READY=1")
    manager.socket.close()


def test_the_watchdog_is_fed_as_long_as_the_supervisor_runs(serve: Serve) -> None:
    manager = Manager(f"@rsgi-{uuid.uuid4().hex}")
    server = serve(APP, env={**manager.variables, "WATCHDOG_USEC": "200000"})
    for _ in range(3):
        manager.wait_for("WATCHDOG=1")
    server.signal(signal.SIGSTOP)
    try:
        # What was sent before is still there; then nothing comes, for ten times as long.
        manager.socket.settimeout(2)
        with pytest.raises(TimeoutError):
            manager.wait_for("nothing")
    finally:
        server.signal(signal.SIGCONT)
    manager.socket.settimeout(DEADLINE)
    manager.wait_for("WATCHDOG=1")
    manager.socket.close()


def test_workers_do_not_see_the_service_managers_variables(serve: Serve, manager: Manager) -> None:
    variables = {"WATCHDOG_USEC": "5000000", "LISTEN_FDS": "1", "LISTEN_PID": "1"}
    server = serve(APP, env={**manager.variables, **variables})
    seen = server.get().json()["variables"]
    assert not [name for name in seen if re.match("NOTIFY_|WATCHDOG_|LISTEN_", name)]


def test_a_service_manager_that_does_not_listen_is_no_hindrance(serve: Serve) -> None:
    server = serve(APP, env={"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "100000"})
    assert server.get().status_code == 200
    assert server.stop() == 0


# The pid file


def test_the_pid_file_names_the_supervisor_until_it_ends(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    server = serve(APP, "--pid", str(path), workers=2)
    assert path.read_text() == f"{server.pid}\n"
    server.stop()
    assert not path.exists()


def test_the_pid_file_of_a_server_that_runs_is_refused(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    first = serve(APP, "--pid", str(path))
    second = serve(APP, "--pid", str(path), ready=False)
    assert second.wait() == 3
    assert f"process {first.pid} of the pid file still runs" in second.stderr()
    assert path.read_text() == f"{first.pid}\n"


def test_the_pid_file_of_a_server_that_was_killed_is_replaced(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    first = serve(APP, "--pid", str(path))
    first.signal(signal.SIGKILL)
    first.wait()
    second = serve(APP, "--pid", str(path))
    assert path.read_text() == f"{second.pid}\n"
