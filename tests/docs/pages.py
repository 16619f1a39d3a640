"""The pages of the documentation, and what stands between their fences.

Owns: reading Markdown as far as the tests need it. Knows nothing of what a command does.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass, field

from tests.support.server import ROOT

#: Generated from what was measured or from the settings themselves, and tested there.
GENERATED = {"docs/benchmarks.md", "docs/reference/settings.md"}
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w./-]+\.\w+)`")
_OPERATORS = {"|", "||", "&", "&&", ";"}


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    page: str
    line: int
    language: str
    text: str
    #: The paragraph before it.
    before: str

    @property
    def name(self) -> str | None:
        """The file that the paragraph before says this is."""
        named = _FILE.findall(self.before.rpartition("\n\n")[2])
        return named[-1] if named else None

    def __str__(self) -> str:
        """Return where it is."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a block, and what the page says that it prints."""

    where: str
    line: str
    output: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Return it as a name for a test."""
        return f"{self.where} {self.line}"

    def parts(self) -> list[list[str]]:
        """Return the words of each command in it (`a | b` has two)."""
        lexer = shlex.shlex(self.line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        parts: list[list[str]] = [[]]
        for word in lexer:
            if word in _OPERATORS:
                parts.append([])
            else:
                parts[-1].append(word)
        return [part for part in parts if part]


def pages() -> list[str]:
    """Return the pages that people write."""
    beside = [path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"]
    found = [*beside, *(ROOT / "docs").rglob("*.md"), ROOT / "crates/README.md"]
    names = sorted(path.relative_to(ROOT).as_posix() for path in found)
    return [name for name in names if name not in GENERATED]


def text_of(page: str) -> str:
    """Return what the page says."""
    return (ROOT / page).read_text()


def blocks(page: str, *languages: str) -> list[Block]:
    """Return the blocks of a page in these languages."""
    text = text_of(page)
    return [
        Block(
            page=page,
            line=text.count("\n", 0, fence.start()) + 2,
            language=fence[2],
            text=textwrap.dedent(fence[3]),
            before=text[: fence.start()].rstrip(),
        )
        for fence in _FENCE.finditer(text)
        if fence[2] in languages
    ]


def commands(page: str) -> list[Command]:
    """Return the commands of a page, in their order."""
    found = []
    for block in blocks(page, "console"):
        pieces = re.split(r"^[$#] ", block.text, flags=re.MULTILINE)
        line = block.line + pieces[0].count("\n")
        for piece in pieces[1:]:
            joined = piece.replace("\\\n", " ")
            command, _, output = joined.partition("\n")
            found.append(Command(f"{page}:{line}", command.strip(), output))
            line += piece.count("\n")
    for block in blocks(page, "sh", "bash", "shell"):
        for number, line_of_script in enumerate(block.text.splitlines(), block.line):
            if line_of_script and not line_of_script.startswith("#"):
                found.append(Command(f"{page}:{number}", line_of_script))
    return found


def spans(page: str) -> list[str]:
    """Return what is written as code in the text of a page."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("", text_of(page)))
