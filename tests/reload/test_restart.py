"""What a change does to what runs: connections, streams, WebSockets, workers, lifespans."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from websockets.exceptions import ConnectionClosed

from tests.reload.conftest import LONG, Project
from tests.support.flavour import rsgi_only
from tests.support.waiting import eventually
from tests.support.websocket import open_client

pytestmark = [rsgi_only("waits for streams for ever"), pytest.mark.timeout(180)]


def test_streams_and_websockets_do_not_delay_it(project: Project) -> None:
    server = project.serve()
    with (
        server.client() as client,
        client.stream("GET", "/stream") as stream,
        open_client(server, "/ws") as websocket,
    ):
        assert next(stream.iter_raw()).startswith(b"data: begun")
        old = server.worker_pids()
        project.save("second")
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=LONG)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        project.wait_for("second")
    eventually(lambda: old[0] not in server.worker_pids(), "end of the old worker", LONG)
    # Nobody was waited for: neither the second for requests nor the limits behind it.
    assert "timeout graceful shutdown exceeded" not in server.stderr()
    assert "killing it" not in server.stderr()


def test_ctrl_c_once_ends_it_in_spite_of_streams(project: Project) -> None:
    server = project.serve(workers=2)
    with server.client() as client, client.stream("GET", "/stream") as stream:
        assert next(stream.iter_raw()).startswith(b"data: begun")
        server.signal_group(signal.SIGINT)
        assert server.wait(LONG) == 0
    assert "timeout graceful shutdown exceeded" not in server.stderr()


def test_no_connection_gets_old_code_after_new(project: Project) -> None:
    """Not one that was kept open, either; and with several workers not from another one."""
    server = project.serve(workers=2)
    clients = [server.client() for _ in range(4)]
    for client in clients:
        assert client.get("/").text == "first"
    project.save("second")
    project.wait_for("second")
    for client in clients:
        assert {client.get("/").text for _ in range(3)} == {"second"}
        client.close()
    eventually(lambda: len(server.worker_pids()) == 2, "two workers", LONG)


def test_requests_that_come_meanwhile_wait_for_the_new_code(project: Project) -> None:
    server = project.serve()
    slow = "import time; time.sleep(1)\n"
    project.main.write_text(slow + project.main.read_text().replace("first", "second"))
    server.wait_for_log("detected changes", deadline=LONG)
    eventually(lambda: "Finished server process" in server.stderr(), "end of the old code", LONG)
    assert server.get("/").text == "second"


def test_a_save_during_the_import_counts(project: Project) -> None:
    server = project.serve()
    first = project.main.read_text()
    project.main.write_text("import time; time.sleep(60)\n" + first.replace("first", "slow"))
    server.wait_for_log("detected changes", deadline=LONG)
    project.save("third")
    project.wait_for("third")


def test_the_old_code_shuts_down_before_the_new_one_starts_up(project: Project) -> None:
    """A port, a file or a GPU that the lifespan holds is free again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    held = project.main.read_text().replace(
        '            message = (await receive())["type"]\n',
        '            message = (await receive())["type"]\n'
        '            if message == "lifespan.startup":\n'
        "                import socket\n"
        "                held = socket.socket()\n"
        "                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        f'                held.bind(("127.0.0.1", {port}))\n'
        "                held.listen()\n"
        "            else:\n"
        "                await asyncio.sleep(0.5)\n"
        "                held.close()\n",
    )
    project.main.write_text(held)
    server = project.serve()
    for version in ("second", "third"):
        project.main.write_text(held.replace("first", version))
        project.wait_for(version)
    assert "Address already in use" not in server.stderr()


def test_hup_restarts_too(project: Project) -> None:
    server = project.serve()
    pid = server.get("/pid").text
    server.signal(signal.SIGHUP)
    server.wait_for_log(r"Received SIGHUP, restarting 1 worker\(s\)")
    eventually(lambda: server.get("/pid").text != pid, "another process", LONG)


def test_preload_comes_to_nothing_and_is_said(project: Project) -> None:
    server = project.serve("--preload")
    server.wait_for_log("--preload has no effect with --reload")
    project.save("second")
    project.wait_for("second")


def test_on_start_runs_once_and_again_only_if_it_failed(project: Project) -> None:
    noted = project.directory / "noted.txt"
    function = f"\ndef prepare():\n    open({str(noted)!r}, 'a').write('ran ')\n    BROKEN\n"
    broken = project.main.read_text() + function
    project.main.write_text(broken)
    server = project.serve("--on-start", "main:prepare", ready=False)
    server.wait_for_log("Running it again when a file changes", deadline=LONG)
    project.main.write_text(broken.replace("BROKEN", "pass"))
    server.wait_until_ready(LONG)
    project.main.write_text(broken.replace("BROKEN", "pass").replace("first", "second"))
    project.wait_for("second")
    assert noted.read_text() == "ran ran "


def test_a_program_restarts_what_it_names_and_no_object(project: Project) -> None:
    call = "import rsgi; rsgi.run('main:app', reload=True, reload_dirs=['.'], port=0)"
    log = project.directory / "log.txt"
    with log.open("wb") as out:
        program = subprocess.Popen(
            [sys.executable, "-c", call], cwd=project.directory, stderr=out, stdout=out
        )
    try:
        running = eventually(
            lambda: re.search(r"running on http://127.0.0.1:(\d+)", log.read_text()), "start", LONG
        )
        assert running is not None
        project.save("second")
        eventually(lambda: "detected changes in 'main.py'" in log.read_text(), "reload", LONG)
        program.send_signal(signal.SIGINT)
        assert program.wait(LONG) == 0
    finally:
        program.kill()
        program.wait()
    call = "import rsgi; rsgi.run(lambda *_: None, reload=True)"
    refused = subprocess.run(
        [sys.executable, "-c", call], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert refused.returncode == 1
    assert 'reload needs an import string: rsgi.run("module:app", reload=True)' in refused.stderr


def test_a_save_is_served_within_the_import_time_and_little_more(project: Project) -> None:
    """The bar is 150 ms more on a quiet machine; here the margin is for a busy one."""
    project.serve()
    times = []
    for number in range(5):
        project.save(f"v{number}")
        saved = time.monotonic()
        project.wait_for(f"v{number}")
        times.append(time.monotonic() - saved)
    print("save to answer:", [f"{duration * 1000:.0f} ms" for duration in times])  # noqa: T201
    assert min(times) < 3.0, times
