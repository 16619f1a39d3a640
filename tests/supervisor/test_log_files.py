"""Log files, and what logrotate does to them: move away, send USR1."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.load import Load
from tests.support.server import Server
from tests.support.waiting import eventually

APP = "tests.apps.stopping:app"
LONG = 30.0
LINE = re.compile(
    r'INFO:     127\.0\.0\.1:\d+ - "GET /pid HTTP/1\.1" 200 OK \d+\.\d{3}ms \d+B \S+Z \[\d+\]'
)

pytestmark = rsgi_only("has no log files")


def announced_in(path: Path, server: Server) -> None:
    """Wait for the addresses in a log file instead of standard error."""

    def probe() -> bool:
        found = re.search(r"running on http://127\.0\.0\.1:(\d+)", path.read_text())
        if found:
            server.addresses = [("127.0.0.1", int(found[1]))]
        return found is not None

    eventually(lambda: path.exists() and probe(), "an address in the log file", LONG)


def test_a_rotation_under_load_loses_no_line(serve: Serve, tmp_path: Path) -> None:
    access, error = tmp_path / "access.log", tmp_path / "error.log"
    flags = ("--access-logfile", str(access), "--error-logfile", str(error))
    server = serve(APP, *flags, workers=2, ready=False)
    announced_in(error, server)
    moved = []
    with Load(server.address, 8, pause=0.001) as load:
        for number in range(3):
            before = load.answered
            eventually(lambda: load.answered > before + 100, deadline=LONG)  # noqa: B023
            for path in (access, error):
                moved.append(path.rename(path.with_suffix(f".{number}")))
            server.signal(signal.SIGUSR1)
            eventually(lambda: access.exists() and error.exists(), "new files", LONG)
            eventually(lambda: access.stat().st_size > 0, "lines in the new file", LONG)
    assert load.losses == []
    assert server.stop(LONG) == 0
    lines = "".join(p.read_text() for p in [*moved, access] if p.name.startswith("access"))
    assert [line for line in lines.splitlines() if not LINE.fullmatch(line)] == []
    assert lines.count("\n") == load.answered
    # The supervisor's and the workers' last words are in the new file, and nowhere else.
    assert "Stopped parent process" in error.read_text()
    assert error.read_text().count("Finished server process") == 2
    assert server.stdout() == server.stderr() == ""


@pytest.mark.parametrize("workers", [1, 3])
def test_no_process_keeps_a_file_that_was_moved_away(
    serve: Serve, tmp_path: Path, workers: int
) -> None:
    access, error = tmp_path / "access.log", tmp_path / "error.log"
    flags = ("--access-logfile", str(access), "--log-file", str(error))
    server = serve(APP, *flags, workers=workers, ready=False)
    announced_in(error, server)
    eventually(lambda: len(holders(server, access)) == workers, "all workers", LONG)
    old = [path.rename(path.with_suffix(".1")) for path in (access, error)]
    server.signal(signal.SIGUSR1)
    eventually(lambda: not any(holders(server, path) for path in old), "files let go", LONG)
    assert len(holders(server, error)) == workers + 1


def holders(server: Server, path: Path) -> list[int]:
    """Return the server's processes that have the file open."""
    found = []
    for pid in server.survivors():
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:  # it closed one, or ended, meanwhile
            continue
        if str(path) in links:
            found.append(pid)
    return found


def test_a_new_file_that_cannot_be_opened_is_logged_and_the_old_one_stays(
    serve: Serve, tmp_path: Path
) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    error = directory / "error.log"
    server = serve(APP, "--error-logfile", str(error), ready=False)
    announced_in(error, server)
    gone = directory.rename(tmp_path / "gone") / "error.log"
    server.signal(signal.SIGUSR1)
    eventually(lambda: gone.read_text().count("cannot open the log file anew") == 2, deadline=LONG)
    assert server.get("/pid").status_code == 200


@pytest.mark.parametrize("flag", ["--access-logfile", "--error-logfile"])
def test_a_file_that_cannot_be_opened_at_the_start_ends_with_3(serve: Serve, flag: str) -> None:
    server = serve(APP, flag, "/no/such/directory/x.log", ready=False)
    assert server.wait(LONG) == 3
    assert f"{flag}: cannot write to the file" in server.stderr()


def test_no_access_log_wins_over_a_file(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    server = serve(APP, "--no-access-log", "--access-logfile", str(path))
    server.get("/pid")
    assert server.stop() == 0
    assert not path.exists()


def test_usr1_without_log_files_is_harmless(serve: Serve) -> None:
    server = serve(APP, workers=2)
    pids = server.wait_for_workers(2)
    server.signal(signal.SIGUSR1)
    server.wait_for_log("SIGUSR1")
    assert server.get("/pid").status_code == 200
    assert server.worker_pids() == pids
