"""`rsgi.run()` in a program of one's own: in this process, or under a supervisor."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.flavour import rsgi_only
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]

pytestmark = rsgi_only("is another server's API")


class Program:
    """A program that serves; its log goes to a file."""

    def __init__(self, source: str, log: Path) -> None:
        """Run the source with the interpreter of the tests."""
        self._log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(source)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=ROOT,
            )

    def log(self) -> str:
        """Return what it has written."""
        return self._log.read_text()

    def url(self) -> str:
        """Wait until it serves and return where."""

        def find() -> str:
            found = re.search(r"rsgi running on (http://\S+)", self.log())
            assert found or self.process.poll() is None, self.log()
            return found[1] if found else ""

        return eventually(find, "address in the log")


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[list[Program]]:
    """Programs that end with the test."""
    started: list[Program] = []
    yield started
    for program in started:
        program.process.kill()
        program.process.wait()


def start(programs: list[Program], tmp_path: Path, source: str) -> Program:
    program = Program(source, tmp_path / f"{len(programs)}.log")
    programs.append(program)
    return program


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_object_is_served_in_this_process(
    programs: list[Program], tmp_path: Path, number: signal.Signals
) -> None:
    source = """
        import os, rsgi
        from tests.apps.stopping import app
        print("program", os.getpid(), flush=True)
        rsgi.run(app, port=0, lifespan="off")
        print("after", flush=True)
    """
    program = start(programs, tmp_path, source)
    response = httpx.get(program.url() + "/pid")
    assert int(response.text) == program.process.pid
    program.process.send_signal(number)
    assert program.process.wait(10) == 0
    assert program.log().rstrip().endswith("after"), "the program goes on behind run()"
    assert "Traceback" not in program.log()


def test_a_stop_has_its_phases_without_a_supervisor(
    programs: list[Program], tmp_path: Path
) -> None:
    source = """
        import rsgi
        from tests.apps.leaving import app
        rsgi.run(app, port=0, shutdown_delay=600)
    """
    program = start(programs, tmp_path, source)
    with httpx.Client(base_url=program.url(), trust_env=False) as client:
        assert "connection" not in client.get("/pid").headers
        program.process.send_signal(signal.SIGTERM)
        eventually(lambda: "Shutting down" in program.log(), "the announcement")
        response = eventually(
            lambda: httpx.get(program.url() + "/pid", trust_env=False).headers.get("connection"),
            "a response that says so",
        )
        assert response == "close"
    program.process.send_signal(signal.SIGTERM)
    # It was forced, so the lifespan may not have had its time: 1.
    assert program.process.wait(10) in (0, 1), program.log()


def test_a_call_that_hangs_in_a_thread_does_not_hold_run(
    programs: list[Program], tmp_path: Path
) -> None:
    source = """
        import os, rsgi
        from tests.apps.leaving import app
        rsgi.run(app, port=0, timeout_graceful_shutdown=1)
        print("after", flush=True)
        os._exit(0)  # the interpreter would wait for the thread
    """
    program = start(programs, tmp_path, source)
    host, port = program.url().removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"GET /pool HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: "APP: started" in program.log(), "the call")
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(30) == 0
    assert program.log().rstrip().endswith("after")


def test_an_import_string_with_workers_is_supervised(
    programs: list[Program], tmp_path: Path
) -> None:
    source = """
        import rsgi
        rsgi.run("tests.apps.stopping:app", port=0, workers=2)
    """
    program = start(programs, tmp_path, source)
    response = httpx.get(program.url() + "/pid")
    assert int(response.text) != program.process.pid
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(10) == 0


def test_a_unix_socket_is_removed_in_the_end(programs: list[Program], tmp_path: Path) -> None:
    path = tmp_path / "socket"
    source = f"""
        import rsgi
        from tests.apps.stopping import app
        rsgi.run(app, uds={str(path)!r})
    """
    program = start(programs, tmp_path, source)

    eventually(lambda: "rsgi running on" in program.log(), "address in the log")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        assert int(client.get("http://socket/pid").text) == program.process.pid
    program.process.send_signal(signal.SIGINT)
    assert program.process.wait(10) == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ('"tests.apps.nothing:app", port=0', 3, "no module `tests.apps.nothing`"),
        ("42, port=0", 3, "cannot be called"),
        ("app, prot=0", 1, "port"),
        ("app, workers=2", 1, "import string"),
        ("app, port='x'", 1, "port"),
        ("app, port=0, user='root'", 1, "user and group are the supervisor's"),
    ],
)
def test_what_is_wrong_is_said(
    programs: list[Program], tmp_path: Path, arguments: str, status: int, text: str
) -> None:
    source = f"import rsgi\nfrom tests.apps.stopping import app\nrsgi.run({arguments})"
    program = start(programs, tmp_path, source)
    assert program.process.wait(10) == status, program.log()
    assert text in program.log()


BLOCKING = """
    import rsgi
    from tests.apps.blocking import app
    rsgi.run(app, port=0, timeout=1, slow_loop_warning="0.5s")
"""


def test_a_blocked_loop_is_explained_and_left_alone(
    programs: list[Program], tmp_path: Path
) -> None:
    program = start(programs, tmp_path, BLOCKING)
    assert httpx.get(program.url() + "/sleep?4", timeout=30).text == "slept"
    eventually(lambda: "The event loop moves again" in program.log())
    log = program.log()
    assert re.search(r"blocked for \d\.\d s: File .*blocking\.py\", line \d+, in sleep", log), log
    assert re.search(r"blocked for \d\.\d s \(--timeout\): File .*blocking\.py", log), log
    assert "no supervisor" in log
    assert "<module>" not in log, "the line that called run() is not where it is blocked"
    assert program.process.poll() is None


def test_usr2_shows_the_stacks(programs: list[Program], tmp_path: Path) -> None:
    program = start(programs, tmp_path, BLOCKING)
    program.url()
    program.process.send_signal(signal.SIGUSR2)
    eventually(lambda: program.log().count("No request in flight") == 1)
    program.process.send_signal(signal.SIGUSR2)
    eventually(lambda: program.log().count("No request in flight") == 2)
    assert program.process.poll() is None


def test_a_use_that_the_program_has_for_usr2_is_respected(
    programs: list[Program], tmp_path: Path
) -> None:
    source = """
        import signal
        import rsgi
        from tests.apps.stopping import app, say
        signal.signal(signal.SIGUSR2, lambda number, frame: say("mine"))
        rsgi.run(app, port=0)
    """
    program = start(programs, tmp_path, source)
    program.url()
    program.process.send_signal(signal.SIGUSR2)
    eventually(lambda: "APP: mine" in program.log())
    assert httpx.get(program.url() + "/pid").status_code == 200
    assert "Stacks" not in program.log()


ANSWERING = """
import os, signal, socket
import rsgi

async def app(scope, receive, send):
    signal.signal(signal.SIGUSR1, lambda number, frame: os.write(1, b"."))
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})

listener = socket.create_server(("127.0.0.1", 0))
os.write(1, b"%5d" % listener.getsockname()[1])
rsgi.run(app, fd=listener.fileno(), lifespan="off", access_log=False)
"""


def test_no_signal_is_missed_behind_a_response() -> None:
    """The signal comes while the loop writes the response, looks around and goes to sleep.

    Between its last look at signals and its sleep the loop has only its wake-up descriptor.
    (2 s: the connection's keep-alive timer would wake it after five.)
    """
    command = [sys.executable, "-c", ANSWERING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            port = int(os.read(process.stdout.fileno(), 5))
            with socket.create_connection(("127.0.0.1", port)) as client:
                for answered in range(3000):
                    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert client.recv(4096).startswith(b"HTTP/1.1 204")
                    os.kill(process.pid, signal.SIGUSR1)
                    ready, _, _ = select.select([process.stdout], [], [], 2)
                    assert ready, f"a signal was slept through after {answered}"
                    assert os.read(process.stdout.fileno(), 1) == b"."
        finally:
            process.kill()


@pytest.mark.parametrize("target", ["app", '"tests.apps.environment:app"'])
def test_an_env_file_is_for_the_application(
    programs: list[Program], tmp_path: Path, target: str
) -> None:
    (tmp_path / "variables").write_text("RSGI_TEST_FILE='from a file'\nRSGI_WORKERS=x\nHOME=file\n")
    source = f"""
        import rsgi
        from tests.apps.environment import app
        rsgi.run({target}, port=0, env_file={str(tmp_path / "variables")!r})
    """
    program = start(programs, tmp_path, source)
    variables = httpx.get(program.url(), trust_env=False).json()
    assert variables["RSGI_TEST_FILE"] == "from a file"
    assert variables["HOME"] == os.environ["HOME"]


def test_an_env_file_reaches_the_workers_of_a_program(
    programs: list[Program], tmp_path: Path
) -> None:
    (tmp_path / "variables").write_text("RSGI_TEST_FILE='from a file'\n")
    source = f"""
        import rsgi
        path = {str(tmp_path / "variables")!r}
        rsgi.run("tests.apps.environment:app", port=0, workers=2, env_file=path)
    """
    program = start(programs, tmp_path, source)
    variables = httpx.get(program.url(), trust_env=False).json()
    assert variables["RSGI_TEST_FILE"] == "from a file"
