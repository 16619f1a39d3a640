"""`--preload`: the application is imported once, and workers are forked from that."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Serve
from tests.support.flavour import IS_RSGI
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(not IS_RSGI, reason="only rsgi has --preload")

# A loaded machine starts an interpreter in seconds.
PATIENCE = 30.0

SOURCE = """
import os, random, sys, uuid

VERSION = "old"

def say(text):
    sys.stderr.write(f"APP: {text}\\n")
    sys.stderr.flush()

say(f"imported {VERSION} in {os.getpid()}")

def index():
    return os.environ.get("RSGI_WORKER_INDEX")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        say(f"start {index()} {scope['state']['rsgi.worker_index']} {random.random()}")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = f"{VERSION} {index()} {scope['state']['rsgi.worker_index']}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body.encode()})
"""


class Code:
    """The application's module, which a test rewrites."""

    def __init__(self, directory: Path) -> None:
        """Write the module as it is at first."""
        self._path = directory / "preloaded.py"
        self.options: dict[str, Any] = {
            "cwd": directory,
            "allow_tracebacks": True,
            # Two versions of a module within a second and of one size look the same to a cache.
            "env": {"PYTHONDONTWRITEBYTECODE": "1"},
        }
        self.write()

    def write(self, *added: str, version: str = "old") -> None:
        """Replace the module."""
        source = SOURCE.replace('"old"', f'"{version}"')
        self._path.write_text("\n".join([source, *added]))


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path)


def preloaded(serve: Serve, code: Code, *flags: str, **options: Any) -> Server:
    return serve("preloaded:app", "--preload", *flags, **code.options, **options)


def templates(server: Server) -> list[int]:
    return [int(pid) for pid in re.findall(r"Started template \[(\d+)\]", server.stderr())]


def imports(server: Server) -> int:
    return server.stderr().count("APP: imported")


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


# Forking


def test_the_application_is_imported_once_for_all_workers(serve: Serve, code: Code) -> None:
    server = preloaded(serve, code, workers=4)
    assert len(server.wait_for_workers(4)) == 4
    assert imports(server) == 1
    (template,) = templates(server)
    assert f"imported old in {template}" in server.stderr()


def test_the_workers_are_the_supervisors_children(serve: Serve, code: Code) -> None:
    server = preloaded(serve, code, workers=2)
    parents = {psutil.Process(pid).ppid() for pid in server.wait_for_workers(2)}
    assert parents == {server.pid}
    # And nobody is left between them and the template.
    assert len(psutil.Process(server.pid).children(recursive=True)) == 3


def test_each_worker_has_its_index_and_its_own_random_numbers(serve: Serve, code: Code) -> None:
    server = preloaded(serve, code, workers=3)
    starts = re.findall(r"APP: start (\S+) (\S+) (\S+)", server.stderr())
    assert {(variable, state) for variable, state, _ in starts} == {
        ("0", "0"),
        ("1", "1"),
        ("2", "2"),
    }
    assert len({number for *_, number in starts}) == 3


def test_a_worker_has_no_descriptor_of_the_template(serve: Serve, code: Code) -> None:
    """Or the end of a channel would not be seen."""
    server = preloaded(serve, code, workers=2)
    (template,) = templates(server)

    def sockets(pid: int) -> set[str]:
        found = (os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir())
        return {name for name in found if name.startswith("socket:")}

    # What they have in common is what they listen on.
    shared = sockets(template).intersection(*(sockets(pid) for pid in server.worker_pids()))
    assert len(shared) == 1
    for pid in server.worker_pids():
        assert sockets(template) & sockets(pid) == shared


def test_threads_of_the_import_are_named_in_a_warning(serve: Serve, code: Code) -> None:
    code.write(
        "import threading, time",
        "threading.Thread(target=time.sleep, args=(1000,), name='poller', daemon=True).start()",
    )
    server = preloaded(serve, code)
    line = server.wait_for_log(r"WARNING: .*threads.*")
    assert line.endswith(": poller")
    assert server.get().text == "old 0 0"
    assert "DeprecationWarning" not in server.stderr()


def test_without_threads_there_is_no_warning(serve: Serve, code: Code) -> None:
    server = preloaded(serve, code)
    assert "WARNING" not in server.stderr()


# Deaths


def test_a_killed_worker_is_forked_again(serve: Serve, code: Code) -> None:
    server = preloaded(serve, code, workers=2)
    victim = server.worker_pids()[0]
    kill(victim)
    server.wait_for_workers(2, without=victim)
    assert f"[{victim}] was killed by SIGKILL" in server.stderr()
    server.wait_for_log("(?s)(APP: start.*){3}")
    starts = re.findall(r"APP: start (\d)", server.stderr())
    assert sorted(starts) in (["0", "0", "1"], ["0", "1", "1"])
    assert imports(server) == 1


def test_a_killed_template_is_replaced_when_a_worker_is_needed(serve: Serve, code: Code) -> None:
    server = preloaded(serve, code, workers=2)
    (template,) = templates(server)
    workers = server.worker_pids()
    kill(template)
    server.wait_for_log(rf"Template \[{template}\] was killed by SIGKILL")
    assert server.get().status_code == 200
    assert server.worker_pids() == workers
    assert len(templates(server)) == 1
    kill(workers[0])
    assert len(server.wait_for_workers(2, without=workers[0])) == 2
    assert imports(server) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_template_changes_nothing(
    serve: Serve, code: Code, number: signal.Signals
) -> None:
    server = preloaded(serve, code)
    os.kill(templates(server)[0], number)
    (victim,) = server.worker_pids()
    kill(victim)
    server.wait_for_workers(1, without=victim)
    assert imports(server) == 1


def test_both_killed_at_once_are_replaced(serve: Serve, code: Code) -> None:
    server = preloaded(serve, code, workers=2)
    (template,) = templates(server)
    victim = server.worker_pids()[0]
    kill(victim)
    kill(template)
    server.wait_for_workers(2, without=victim)
    assert server.get().status_code == 200


def test_workers_and_template_end_when_the_supervisor_is_killed(serve: Serve, code: Code) -> None:
    server = preloaded(serve, code, workers=2)
    pids = [*templates(server), *server.worker_pids()]
    server.signal(signal.SIGKILL)
    server.wait()
    assert eventually(lambda: all(is_gone(pid) for pid in pids), "their end", PATIENCE)


# Stopping


@pytest.mark.parametrize(
    ("number", "is_for_all"),
    [
        (signal.SIGTERM, False),
        (signal.SIGTERM, True),
        (signal.SIGINT, False),
        (signal.SIGINT, True),
        (signal.SIGQUIT, False),
    ],
)
def test_a_stop_leaves_nothing_behind(
    serve: Serve, code: Code, number: signal.Signals, is_for_all: bool
) -> None:
    server = preloaded(serve, code, workers=2)
    pids = [*templates(server), *server.worker_pids()]
    (server.signal_group if is_for_all else server.signal)(number)
    assert server.wait(PATIENCE) == 0
    assert [pid for pid in pids if not is_gone(pid)] == []
    assert not server.survivors()
    assert "could not be started" not in server.stderr()


def test_a_stop_during_the_import_is_a_clean_one(serve: Serve, code: Code) -> None:
    code.write("say('hanging')", "import time; time.sleep(1000)")
    server = preloaded(serve, code, workers=2, ready=False)
    server.wait_for_log("APP: hanging", deadline=PATIENCE)
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait(PATIENCE) == 0
    assert time.monotonic() - begun < 20
    assert is_gone(templates(server)[0])
    assert "ERROR" not in server.stderr()


# Failing


def test_an_import_that_fails_at_the_start_ends_the_server(serve: Serve, code: Code) -> None:
    code.write("raise ValueError('no such setting')")
    server = preloaded(serve, code, workers=2, ready=False)
    assert server.wait(PATIENCE) == 3
    assert server.stderr().count("ValueError: no such setting") == 1
    assert "No worker could be started, giving up" in server.stderr()
    assert not server.survivors()


def test_an_import_that_takes_too_long_ends_the_server(serve: Serve, code: Code) -> None:
    code.write("import time; time.sleep(1000)")
    server = preloaded(serve, code, "--timeout-worker-startup", "3", ready=False)
    assert server.wait(PATIENCE) == 3
    assert "not ready within 3 s (--timeout-worker-startup)" in server.stderr()
    assert not server.survivors()


FORKS = """
import signal, time
forks = 0

def count():
    global forks
    forks += 1
"""


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (
            "def fork(): raise OSError(11, 'no more processes')\nos.fork = fork",
            "Worker 1 could not be started: cannot fork: .*no more processes",
        ),
        (
            "os.register_at_fork(after_in_child=lambda: os._exit(11))",
            "Worker 1 could not be started: cannot fork: Resource temporarily unavailable",
        ),
        (
            "os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), 9))",
            "Worker 1 could not be started: forking was ended by signal 9",
        ),
        # Only the second fork makes the worker, which nobody has heard of when it dies.
        (
            "os.register_at_fork(after_in_child=count)\n"
            "os.register_at_fork(after_in_child=lambda: forks > 1 and os.kill(os.getpid(), 9))",
            r"Worker 1 \[\d+\] was killed by SIGKILL before it was ready",
        ),
        (
            "os.register_at_fork(before=lambda: time.sleep(1000))",
            r"(?s)(Template \[\d+\] does not fork, killing it.*){2}the template died over it",
        ),
    ],
    ids=["no-fork", "exits-between", "killed-between", "killed-at-birth", "hangs"],
)
def test_a_worker_that_cannot_be_forked_is_a_failed_start(
    serve: Serve, code: Code, hook: str, said: str
) -> None:
    code.write(FORKS, hook)
    server = preloaded(serve, code, "--timeout-worker-startup", "4", ready=False)
    assert server.wait(PATIENCE) == 3
    assert re.search(said, server.stderr()), server.stderr()
    assert eventually(lambda: not server.survivors())


# Reloading


def reload_is_over(server: Server, since: int) -> str:
    server.signal(signal.SIGHUP)
    pattern = r"Reload complete|Reload abandoned.*"
    return server.wait_for_log(pattern, since, deadline=PATIENCE)


def test_a_reload_serves_new_code_from_a_new_template(serve: Serve, code: Code) -> None:
    server = preloaded(serve, code, workers=2)
    before = [*templates(server), *server.worker_pids()]
    code.write(version="new")
    assert reload_is_over(server, server.mark()) == "Reload complete"
    eventually(lambda: all(is_gone(pid) for pid in before), "the end of the old ones", PATIENCE)
    assert len(server.wait_for_workers(2)) == 2
    assert {server.get().text.split()[0] for _ in range(10)} == {"new"}
    assert imports(server) == 2
    # The next worker is of the new template, too.
    victim = server.worker_pids()[0]
    kill(victim)
    server.wait_for_workers(2, without=victim)
    assert imports(server) == 2


def test_a_reload_of_broken_code_leaves_everything_as_it_is(serve: Serve, code: Code) -> None:
    server = preloaded(serve, code, workers=2)
    workers = server.worker_pids()
    code.write("def broken(:")
    for count in (1, 2):
        said = reload_is_over(server, server.mark())
        assert said == "Reload abandoned, the old workers serve on: SyntaxError: invalid syntax"
        assert server.stderr().count("Reload abandoned") == count
    assert server.worker_pids() == workers
    assert server.get().text.startswith("old ")
    # The old template still forks the old code.
    kill(workers[0])
    server.wait_for_workers(2, without=workers[0])
    assert {server.get().text.split()[0] for _ in range(10)} == {"old"}
    assert imports(server) == 1


def test_a_reload_whose_workers_fail_goes_back_to_the_old_template(
    serve: Serve, code: Code
) -> None:
    server = preloaded(serve, code, "--lifespan", "on", workers=2)
    workers = server.worker_pids()
    code.write("async def app(scope, receive, send): raise ValueError('no table')", version="new")
    assert reload_is_over(server, server.mark()).startswith("Reload abandoned")
    assert server.wait_for_workers(2) == workers
    kill(workers[0])
    server.wait_for_workers(2, without=workers[0])
    assert {server.get().text.split()[0] for _ in range(10)} == {"old"}
    old, new = templates(server)
    assert eventually(lambda: is_gone(new))
    assert not is_gone(old)
