"""Every command of the documentation that serves is started, and answers a request."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.docs.conftest import APP
from tests.docs.test_commands import ALL, settings_elsewhere
from tests.support.certificates import Authority, replace
from tests.support.flavour import rsgi_only
from tests.support.server import ROOT, Server
from tests.support.wire import Response, Wire

pytestmark = [rsgi_only("has documentation of its own"), pytest.mark.timeout(120)]

PATIENCE = 60.0
_TARGET = re.compile(r"^([a-z_]\w*(?:\.\w+)*):(\w+)(\(\))?$")
#: What a flag says that cannot hold in a test, and what does.
_PLACES = {
    "--port": "0",
    "--host": "127.0.0.1",
    "--admin-bind": "127.0.0.1:0",
    "--uds": "socket",
    "--pid": "rsgi.pid",
}
_ADDRESSES = {
    "https://0.0.0.0:443": "https://127.0.0.1:0",
    "http://0.0.0.0:80": "http://127.0.0.1:0",
}
_WSGI = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]

application = app

def create_app():
    return app
"""


def serving() -> list[str]:
    """Return the commands that serve, each once."""
    found: list[list[str]] = [words for _where, words in settings_elsewhere()]
    for command in ALL:
        for words in command.parts():
            while re.match(r"^[A-Z_]+=", words[0]):  # a variable of the command
                words = words[1:]
            found.append(words)
    lines = {
        " ".join(words)
        for words in found
        if words[0] == "rsgi" and any(_TARGET.match(word) for word in words)
    }
    # It needs Redis and PostgreSQL: `tests/examples` and `tests/docker` have them.
    return sorted(line for line in lines if "notes_app" not in line)


def write(directory: Path, words: list[str]) -> None:
    """Write the reader's files: the application, certificates, lists."""
    source = _WSGI if "wsgi" in words else APP + "\napplication = app\n"
    for word in words:
        if (target := _TARGET.match(word)) and not target[1].startswith("examples"):
            path = directory / (target[1].replace(".", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(source)
    authority = Authority()
    issued = authority.issue("localhost")
    for name in re.findall(r"\S+\.(?:pem|key)", " ".join(words)):
        text = (
            issued.key_pem()
            if name.startswith(("k.", "privkey")) or name.endswith(".key")
            else issued.pem
        )
        text = {"clients.pem": authority.pem, "revoked.pem": authority.revocations()}.get(
            name, text
        )
        replace(directory / name, text)
    replace(directory / "authority", authority.pem)
    issued.write(directory, "client")


def ask(server: Server, directory: Path) -> Response:
    """Send a request to the first address, encrypted if that is what it says."""
    with server.connect(timeout=PATIENCE) as wire:
        if "running on https" not in server.stderr():
            return wire.get()
        context = ssl.create_default_context(cafile=str(directory / "authority"))
        context.load_cert_chain(directory / "client.crt", directory / "client.key")
        with context.wrap_socket(wire.socket, server_hostname="localhost") as encrypted:
            return Wire.over(encrypted).get()


@pytest.mark.parametrize("line", serving())
def test_a_command_starts_and_answers(serve: Serve, tmp_path: Path, line: str) -> None:
    words = line.split()[1:]
    write(tmp_path, words)
    before = ["", *words[:-1]]
    words = [
        _PLACES.get(flag, _ADDRESSES.get(word, word))
        for flag, word in zip(before, words, strict=True)
    ]
    words = [str(tmp_path / word) if word == "socket" else word for word in words]
    if not {"--port", "--uds", "--bind"} & set(words):
        words += ["--port", "0"]
    is_ours = any(word.startswith("examples.") for word in words)
    server = serve(words[0], *words[1:], cwd=ROOT if is_ours else tmp_path, bind=False, ready=False)
    server.wait_until_announced(PATIENCE)
    assert ask(server, tmp_path).status == 200
