"""`examples/notes_app.py` with a real PostgreSQL and a real Redis, as `compose.yaml` starts it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.waiting import eventually

pytestmark = [rsgi_only("has no --on-start"), pytest.mark.timeout(180)]

LONG = 60.0


@dataclass(frozen=True)
class Services:
    """Where the two listen: Unix sockets in a directory of their own."""

    database: str
    cache: str


def _program(name: str) -> str:
    found = [shutil.which(name), *map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))]
    for path in found:
        if path:
            return path
    pytest.skip(f"there is no {name} (PostgreSQL and Redis are needed)")


def _as_nobody_special(directory: Path) -> list[str]:
    """Return what runs a command as another user than root, which PostgreSQL refuses."""
    if os.getuid() != 0:
        return []
    for name in ["postgres", "nobody"]:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(directory, user.pw_uid, user.pw_gid)
        return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    pytest.skip("there is no user for PostgreSQL")


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    """Start both."""
    initdb, postgres, redis = map(_program, ["initdb", "postgres", "redis-server"])
    # Short, as the name of a socket has to be, and with parents that another user may enter.
    directory = Path(tempfile.mkdtemp(prefix="rsgi-notes-", dir="/tmp"))
    directory.chmod(0o755)
    user = _as_nobody_special(directory)
    data = directory / "data"
    made = [*user, initdb, "--pgdata", str(data), "--username", "notes", "--auth", "trust"]
    subprocess.run([*made, "--no-sync"], check=True, capture_output=True, timeout=LONG)
    settings = ["fsync=off", "listen_addresses=", f"unix_socket_directories={directory}"]
    flags = [word for setting in settings for word in ("-c", setting)]
    cache = directory / "redis.sock"
    started = [
        subprocess.Popen([*user, postgres, "-D", str(data), *flags], stderr=subprocess.DEVNULL),
        subprocess.Popen(
            [redis, "--port", "0", "--unixsocket", str(cache), "--save", ""],
            stdout=subprocess.DEVNULL,
            cwd=directory,
        ),
    ]
    try:
        eventually(cache.exists, "Redis", LONG)
        eventually(lambda: _accepts(directory), "PostgreSQL", LONG)
        yield Services(f"postgresql://notes@/postgres?host={directory}", f"unix://{cache}")
    finally:
        for process in started:
            # PostgreSQL: fast shutdown.
            process.send_signal(signal.SIGINT)
            process.wait(LONG)
        shutil.rmtree(directory)


def _accepts(directory: Path) -> bool:
    ready = [_program("pg_isready"), "--host", str(directory), "--username", "notes"]
    return subprocess.run([*ready, "--quiet"]).returncode == 0


def test_notes_are_kept_and_cached_by_all_workers(serve: Serve, services: Services) -> None:
    env = {"DATABASE_URL": services.database, "REDIS_URL": services.cache}
    prepare = ("--on-start", "examples.notes_app:prepare")
    server = serve("examples.notes_app:app", *prepare, workers=2, env=env)
    with server.client() as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/notes").json() == []
        assert client.post("/notes", content="buy bread").status_code == 201
    # Other connections, and so sooner or later the other worker.
    notes = [{"id": 1, "text": "buy bread"}]
    assert all(server.get("/notes").json() == notes for _ in range(8))
    assert server.stop(30) == 0
