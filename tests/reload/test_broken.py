"""Code that does not start: the server stays, and shows why until it is mended."""

from __future__ import annotations

import socket

import pytest

from tests.reload.conftest import LONG, Project, source
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = [rsgi_only("exits"), pytest.mark.timeout(180)]

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

BROKEN = {
    "syntax": ("def app(:  # <b>&\n", "SyntaxError"),
    "import": ("import no_such_module\n", "No module named"),
    "exit": ("raise SystemExit(7)\n", "sys.exit(7)"),
    "crash": ("import os; os._exit(9)\n", "exited with code 9"),
    "attribute": ("application_ = None\n", "has no `app` or `application`"),
    "lifespan": (
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await receive()\n"
        "        raise ValueError('no database')\n",
        "no database",
    ),
}


def wait_for_page(server: Server, words: str) -> None:
    server.wait_for_log("The application did not start; browsers are shown why", deadline=LONG)

    def probe() -> bool:
        answer = server.get("/")
        return answer.status_code == 500 and words in answer.text

    eventually(probe, f"a page about {words!r}", LONG)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_mistake_is_shown_until_it_is_mended(project: Project, kind: str) -> None:
    text, words = BROKEN[kind]
    server = project.serve("--lifespan", "on" if kind == "lifespan" else "auto", app="main")
    project.main.write_text(text)
    wait_for_page(server, words)
    assert words in server.stderr()
    project.save("mended")
    project.wait_for("mended")
    assert server.is_running()


def test_a_first_start_with_broken_code_shows_it_and_waits(project: Project) -> None:
    project.main.write_text(BROKEN["syntax"][0])
    server = project.serve(ready=False, workers=2)
    server.wait_for_log("running on http://", deadline=LONG)
    server._announced()
    wait_for_page(server, "SyntaxError")
    assert server.stderr().count("SyntaxError") == 1, "one worker tries it, not each"
    project.save("mended")
    project.wait_for("mended")
    eventually(lambda: len(server.worker_pids()) == 2, "both workers", LONG)
    assert server.stop(LONG) == 0


def test_the_page_is_for_browsers_and_the_text_for_others(project: Project) -> None:
    project.main.write_text(BROKEN["syntax"][0])
    server = project.serve(ready=False)
    server.wait_for_log("running on http://", deadline=LONG)
    server._announced()
    with server.client() as client:
        page = client.get("/any/path?x=1", headers=BROWSER)
        assert (page.status_code, page.headers["cache-control"]) == (500, "no-store")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "def app(:  # &lt;b&gt;&amp;" in page.text
        assert "<b>" not in page.text
        nonce = page.text.split('<script nonce="')[1].split('"')[0]
        assert f"script-src 'nonce-{nonce}'" in page.headers["content-security-policy"]
        posted = client.post("/", headers=BROWSER, content=b"x")
        assert posted.status_code == 500
        assert "<script" not in posted.text, "a form is not sent again"
        text = client.get("/", headers={"accept": "*/*"})
        assert text.headers["content-type"] == "text/plain; charset=utf-8"
        assert "def app(:  # <b>&" in text.text
        assert client.head("/", headers=BROWSER).content == b""


def test_the_page_learns_of_the_cure_without_asking_again_and_again(project: Project) -> None:
    project.main.write_text(BROKEN["syntax"][0])
    server = project.serve(ready=False)
    server.wait_for_log("running on http://", deadline=LONG)
    server._announced()
    number = server.get("/").headers["x-rsgi-error"]
    wire = server.connect(LONG)
    wire.send(f"GET / HTTP/1.1\r\nhost: x\r\nx-rsgi-error: {number}\r\n\r\n".encode())
    head = wire.read_head()
    assert (head.status, head.value(b"x-rsgi-error")) == (200, number.encode())
    project.save("mended")
    # It is over, one way or another, once there is something new.
    wire.read_to_end()
    project.wait_for("mended")


def test_a_fix_after_a_crash_while_serving_is_taken(project: Project) -> None:
    crash = "import os, signal\nasync def app(*_):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    server = project.serve("--lifespan", "off")
    project.main.write_text(crash)
    server.wait_for_log("detected changes", deadline=LONG)
    for _ in range(12):  # more than a crash loop has
        eventually(lambda: _is_crashed(server), "a crash", LONG)
        if "keeps dying" in server.stderr():
            break
    project.save("mended")
    project.wait_for("mended")
    assert source("mended") == project.main.read_text()


def _is_crashed(server: Server) -> bool:
    before = server.stderr().count("was killed by SIGKILL")
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=1) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            client.recv(1)
    except OSError:
        pass
    return server.stderr().count("was killed by SIGKILL") > before or before > 0


def test_what_runs_before_the_workers_is_shown_when_it_fails(project: Project) -> None:
    good = source("mended") + "\ndef prepare():\n    pass\n"
    project.main.write_text(good.replace("    pass\n", "    raise ValueError('no database')\n"))
    server = project.serve("--on-start", "main:prepare", ready=False)
    server.wait_for_log("browsers are shown why", deadline=LONG)
    server.wait_until_announced(LONG)
    with server.client() as client:
        page = client.get("/", headers=BROWSER)
    assert page.status_code == 500
    assert "main:prepare failed" in page.text
    assert "no database" in page.text
    project.main.write_text(good)
    project.wait_for("mended")
    assert server.stop(LONG) == 0
    assert not server.survivors()


def test_a_stop_while_that_is_shown_leaves_nobody_behind(project: Project) -> None:
    project.main.write_text(source("first") + "\nraise ValueError('no database')\n")
    server = project.serve("--on-start", "main:prepare", ready=False)
    server.wait_for_log("browsers are shown why", deadline=LONG)
    assert server.stop(LONG) == 0
    assert not server.survivors()
