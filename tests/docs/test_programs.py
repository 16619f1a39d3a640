"""The pages that show an application: it is written down, served by the page's commands, and asked.

What else a page lets its reader do (`django-admin startproject`, `curl`) is done as well.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.docs.pages import Command, blocks, commands, pages
from tests.support.flavour import rsgi_only
from tests.support.server import Server

pytestmark = [rsgi_only("has documentation of its own"), pytest.mark.timeout(180)]

_APPLICATION = re.compile(r"^(?:async )?(?:def|class) app\b|^(?:app|application) = ", re.MULTILINE)
_TARGET = re.compile(r"^([\w.]+):(\w+)(\(\))?$")
#: What a flag says that cannot hold in a test, and what does.
_PLACES = {"--port": "0", "--host": "127.0.0.1", "--bind": "127.0.0.1:0", "-b": "127.0.0.1:0"}


def files(page: str) -> dict[str, str]:
    """Return the Python files that a page shows; an application without a name is `main.py`."""
    found: dict[str, str] = {}
    for block in blocks(page, "python"):
        is_application = _APPLICATION.search(block.text) and "import" in block.text
        name = block.name if (block.name or "").endswith(".py") else None
        if name is None and (is_application or "async def app(" in block.text):
            name = "main.py"
        if name is not None:
            found.setdefault(name, block.text)
    return found


def served(page: str) -> list[Command]:
    """Return the commands that serve one of the page's files."""
    modules = {name.removesuffix(".py").replace("/", ".") for name in files(page)}
    return [
        command
        for command in commands(page)
        for words in command.parts()
        if words[0] == "rsgi"
        and any((found := _TARGET.match(word)) and found[1] in modules for word in words)
    ]


PAGES = [page for page in pages() if served(page)]


class Reader:
    """Somebody who follows a page, command by command."""

    def __init__(self, page: str, directory: Path, serve: Serve) -> None:
        """Begin in a directory; the files come when they can be written."""
        self.directory = directory
        self.serve = serve
        self.files = files(page)
        self.server: Server | None = None
        self.asked = 0

    def write(self) -> None:
        """Write down what the page shows, where its folders are there."""
        for name, text in self.files.items():
            path = self.directory / name
            if path.parent.is_dir():
                path.write_text(text)

    def follow(self, words: list[str], output: str) -> None:
        """Do what a command says."""
        match words:
            case ["django-admin", *arguments]:
                line = [sys.executable, "-m", "django", *arguments]
                subprocess.run(line, cwd=self.directory, check=True, timeout=60)
            case ["cd", directory]:
                self.directory /= directory
            case ["rsgi", *arguments] if arguments[:1] not in (["status"], ["health"]):
                self._serve(arguments)
            case ["curl", *_, url] if self.server and shutil.which("curl"):
                self._ask(words, url, output)

    def _serve(self, arguments: list[str]) -> None:
        if not any(_TARGET.match(word) for word in arguments):
            return
        self.write()
        if self.server is not None:
            self.server.stop()
        before = [None, *arguments[:-1]]
        flags = [
            _PLACES.get(flag or "", word) for flag, word in zip(before, arguments, strict=True)
        ]
        if not {*_PLACES} & set(flags):
            flags += ["--port", "0"]
        self.server = self.serve(flags[0], *flags[1:], cwd=self.directory)
        response = self.server.get("/")
        assert response.status_code < 500, response.text
        self.asked += 1

    def _ask(self, words: list[str], url: str, output: str) -> None:
        assert self.server is not None
        here = re.sub(r"//(127\.0\.0\.1|localhost)(:\d+)?", f"//127.0.0.1:{self.server.port}", url)
        line = [words[0], "--silent", "--show-error", "--max-time", "30", *words[1:-1], here]
        ran = subprocess.run(line, capture_output=True, text=True, timeout=40)
        assert ran.returncode == 0, ran.stderr
        if output:
            assert ran.stdout.strip() == output.strip()


@pytest.fixture
def reader(serve: Serve, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Reader]:
    """Return a reader of the page."""
    reader = Reader(request.param, tmp_path, serve)
    yield reader
    if reader.server is not None and reader.server.is_running():
        assert reader.server.stop(30) == 0


@pytest.mark.parametrize(("page", "reader"), [(page, page) for page in PAGES], indirect=["reader"])
def test_a_page_can_be_followed(page: str, reader: Reader) -> None:
    for command in commands(page):
        for words in command.parts():
            reader.follow(words, command.output)
    assert reader.asked >= len(served(page)) > 0


def test_the_pages_with_an_application_are_found() -> None:
    for page in ["quickstart", "fastapi", "quart", "django"]:
        assert f"docs/guides/{page}.md" in PAGES
