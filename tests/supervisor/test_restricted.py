"""Containers and services that give a process next to nothing, and another user.

Everything happens in a mount namespace of the server's own, so the machine does not notice.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.supervisor.conftest import ServeUnder
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.waiting import eventually

APP = "tests.apps.identity:app"
# Numbers that no passwd entry has.
UID, GID = 54321, 54322

pytestmark = rsgi_only("is not tested for it")


def closed_directory() -> Path | None:
    """Return what keeps other users from the interpreter: a home directory, usually."""
    for path in reversed([*Path(sys.base_prefix).parents]):
        if not path.stat().st_mode & stat.S_IXOTH:
            return path
    return None


def namespace(scratch: Path, *commands: str) -> list[str]:
    """Return a wrapper that runs `commands` in a mount namespace and becomes what follows."""
    script = ["set -e"]
    if closed := closed_directory():
        # An open directory in its place, with nothing but the interpreter in it.
        inner = closed / Path(sys.base_prefix).relative_to(closed).parts[0]
        aside, there, here = (shlex.quote(str(p)) for p in (scratch, closed, inner))
        script += [
            f"mount --bind {here} {aside}",
            f"mount -t tmpfs -o mode=755 none {there}",
            f"mkdir {here}",
            f"mount --move {aside} {here}",
        ]
    script += [*commands, 'exec "$@"']
    unshare = ["unshare", "--mount", "--propagation", "private"]
    return [*unshare, "sh", "-c", "\n".join(script), "sh"]


def works(wrapper: list[str]) -> bool:
    """Tell whether this machine lets us do that."""
    if os.getuid() or not all(shutil.which(tool) for tool in ("unshare", "setpriv", "mount")):
        return False
    probe = [*wrapper, "setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups"]
    return (
        subprocess.run([*probe, sys.executable, "-c", "import rsgi"], check=False).returncode == 0
    )


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Return a directory for mounting; skip where this is not possible."""
    path = tmp_path / "aside"
    path.mkdir()
    if not works(namespace(path)):
        pytest.skip("needs root, unshare and setpriv, and a kernel that lets them")
    return path


@pytest.fixture
def run_directory() -> Iterator[Path]:
    """Yield a directory that every user can reach, as /run/app is."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


# Conditions, each as a command in the namespace

READ_ONLY = "mount -o remount,bind,ro /"
NO_SHARED_MEMORY = "mount -t tmpfs -o ro,size=4k none /dev/shm"
NO_PROC = "mount -t tmpfs -o ro,size=4k none /proc"
# An unknown user without a group, a capability, a home, or the way back.
NOBODY = [
    "setpriv",
    f"--reuid={UID}",
    f"--regid={GID}",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--no-new-privs",
    "env",
    "--unset=HOME",
]


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param([READ_ONLY], id="read-only root"),
        pytest.param([NO_SHARED_MEMORY], id="no shared memory"),
        pytest.param([NO_PROC], id="no proc"),
        pytest.param([READ_ONLY, NO_SHARED_MEMORY, NO_PROC], id="nothing at all"),
    ],
)
def test_it_serves_and_stops_with_next_to_nothing(
    serve_under: ServeUnder, scratch: Path, commands: list[str]
) -> None:
    server = serve_under([*namespace(scratch, *commands), *NOBODY], APP, workers=2)
    about = server.get().json()
    assert (about["uids"], about["gids"]) == ([UID] * 3, [GID] * 3)
    assert "HOME" not in about["variables"]
    (victim, _) = server.worker_pids()
    os.kill(victim, 9)
    server.wait_for_workers(2, without=victim)
    assert server.get().status_code == 200
    assert server.stop() == 0


# Another user


def ids_of(pid: int) -> dict[str, list[int]]:
    """Return the ids of a process, as the kernel has them."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {name: [int(id) for id in fields[name].split()] for name in ("Uid", "Gid", "Groups")}


def as_user(serve_under: ServeUnder, scratch: Path, *flags: str, **options: bool) -> Server:
    return serve_under(namespace(scratch), APP, *flags, **options)


def test_supervisor_and_workers_become_the_user_for_good(
    serve_under: ServeUnder, scratch: Path
) -> None:
    server = as_user(serve_under, scratch, "--user", str(UID), "--group", str(GID))
    for pid in (server.pid, *server.worker_pids()):
        assert ids_of(pid) == {"Uid": [UID] * 4, "Gid": [GID] * 4, "Groups": [GID]}
    status = Path(f"/proc/{server.pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert server.stop() == 0


def test_a_user_by_name_has_its_own_groups(serve_under: ServeUnder, scratch: Path) -> None:
    entry = pwd.getpwnam("nobody")
    server = as_user(serve_under, scratch, "--user", "nobody")
    about = server.get().json()
    assert about["uids"] == [entry.pw_uid] * 3
    assert about["gids"] == [entry.pw_gid] * 3
    assert set(about["groups"]) == set(os.getgrouplist("nobody", entry.pw_gid))


def test_what_was_opened_before_still_works(
    serve_under: ServeUnder, scratch: Path, run_directory: Path
) -> None:
    """A privileged port, a pid file and a socket in a directory of root's."""
    pid_file, path = run_directory / "pid", run_directory / "s"
    flags = ("--bind", f"unix:{path}", "--uds-permissions", "0660", "--pid", str(pid_file))
    server = as_user(serve_under, scratch, "--user", str(UID), "--group", str(GID), *flags)
    assert server.get().json()["uids"] == [UID] * 3
    assert pid_file.read_text() == f"{server.pid}\n"
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (UID, GID, 0o660)
    assert server.stop() == 0
    # The directory is root's, so the files stay, but they are in nobody's way.
    assert pid_file.read_text() == ""
    again = as_user(serve_under, scratch, "--user", str(UID), "--group", str(GID), *flags)
    assert again.get().status_code == 200


def test_a_user_that_may_not_be_is_explained(serve_under: ServeUnder, scratch: Path) -> None:
    wrapper = [*namespace(scratch), *NOBODY]
    server = serve_under(wrapper, APP, "--user", "root", ready=False)
    assert server.wait() == 3
    assert "cannot become user 0 and group 0, start as root" in server.stderr()


def test_a_user_that_the_process_already_is_needs_no_permission(
    serve_under: ServeUnder, scratch: Path
) -> None:
    wrapper = [*namespace(scratch), *NOBODY]
    server = serve_under(wrapper, APP, "--user", str(UID), "--group", str(GID))
    assert server.get().status_code == 200


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--user", "no-such-user"), "there is no such user: `no-such-user`"),
        (("--group", "no-such-group"), "there is no such group: `no-such-group`"),
        (("--user", str(UID)), f"add --group: `{UID}`"),
    ],
)
def test_a_user_that_does_not_exist_is_a_usage_error(
    serve: Serve, flags: tuple[str, ...], message: str
) -> None:
    server = serve(APP, *flags, ready=False)
    assert server.wait() == 2
    assert message in server.stderr()


# Socket files


def test_a_socket_that_nobody_listens_on_is_replaced(serve: Serve, run_directory: Path) -> None:
    path = run_directory / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert serve(APP, "--uds", str(path)).get().status_code == 200


def test_a_socket_that_somebody_listens_on_is_not(serve: Serve, run_directory: Path) -> None:
    path = run_directory / "s"
    first = serve(APP, "--uds", str(path))
    second = serve(APP, "--uds", str(path), ready=False)
    assert second.wait() == 3
    assert "address already in use" in second.stderr()
    assert first.get().status_code == 200


def test_a_killed_servers_socket_is_replaced_by_the_next(serve: Serve, run_directory: Path) -> None:
    path = run_directory / "s"
    first = serve(APP, "--uds", str(path))
    first.destroy()
    eventually(lambda: not first.survivors(), "end of its workers, which listen as well")
    assert path.exists()
    second = serve(APP, "--uds", str(path))
    assert second.get().status_code == 200
    second.stop()
    assert not path.exists()
