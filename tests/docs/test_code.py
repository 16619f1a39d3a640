"""Code and settings on the pages: all of it is read, what is whole is run. Links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import Block, blocks, pages, text_of
from tests.docs.test_commands import rsgi
from tests.support.flavour import rsgi_only
from tests.support.server import ROOT

pytestmark = rsgi_only("has documentation of its own")

PYTHON = [block for page in pages() for block in blocks(page, "python", "py")]
#: A whole program: it imports what it uses and ends by itself.
PROGRAMS = [block for block in PYTHON if "asyncio.run(" in block.text]
LINK = re.compile(r"\]\(([^)\s]+)\)")
#: `ssl`, `asyncio.run(loop_factory=...)`: a page may say from which Python on it is right.
NEWEST = sys.version_info >= (3, 12)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_is_python(block: Block) -> None:
    # As in a notebook: a fragment may await.
    compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.skipif(not NEWEST, reason="asyncio.run() has a loop_factory from Python 3.12 on")
@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_whole_program_runs(block: Block, reader: Path) -> None:
    (reader / "program.py").write_text(block.text)
    # Nothing but warnings: a page does not teach what is out of date.
    ran = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=reader,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    "block",
    [block for page in pages() for block in blocks(page, "toml", "json", "yaml", "yml")],
    ids=str,
)
def test_settings_can_be_read(block: Block, reader: Path) -> None:
    if block.language == "json":
        for line in block.text.splitlines() if block.text.count("\n{") else [block.text]:
            json.loads(line)
        return
    if block.language in {"yaml", "yml"}:
        assert list(yaml.safe_load_all(block.text)) != [None]
        return
    settings = tomllib.loads(block.text)
    named = f"{block.before.rpartition(chr(10) * 2)[2]}\n{block.text}"
    if "rsgi" in named and "package" not in settings:
        name = "pyproject.toml" if "rsgi" in settings.get("tool", {}) else "rsgi.toml"
        (reader / name).write_text(block.text)
        target = [] if "app" in settings else ["main:app"]
        ran = rsgi(["--check-config", *target], reader)
        assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("page", [page for page in pages() if "/" not in page])
def test_links_of_the_pages_outside_of_the_site_lead_somewhere(page: str) -> None:
    """Links within docs/ are seen to by the site's strict build (`scripts/check`)."""
    for target in LINK.findall(text_of(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = ROOT / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, target


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
