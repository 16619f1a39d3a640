"""Every command of the documentation: run, or held against what it is about.

A command of a kind that is not in `CHECKS` fails here: say there how it is to be checked.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import Command, blocks, commands, pages, spans
from tests.support import flavour
from tests.support.flavour import rsgi_only
from tests.support.server import ROOT

pytestmark = rsgi_only("has documentation of its own")

ALL = [command for page in pages() for command in commands(page)]
#: Flags of rsgi that name a file, which has to be there for `--check-config`.
_FILES = {"-c", "--config", "--env-file", "--log-config"}


def rsgi(words: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the command with these words."""
    return subprocess.run(
        flavour.command(*words),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )


def check_rsgi(words: list[str], directory: Path, page: str) -> None:
    """See that the settings are right; the questions are asked, and nobody answers."""
    arguments = words[1:]
    if arguments[:1] in (["status"], ["health"]):
        ran = rsgi([*arguments, "--timeout", "1"], directory)
        assert ran.returncode in (0, 1), ran.stderr
        assert "usage:" not in ran.stderr
        return
    for flag, value in pairwise(arguments):
        if flag in _FILES:
            write_file(page, value, directory)
    if not {"--help", "--version", "--completions", "--print-config"} & set(arguments):
        arguments = ["--check-config", *arguments]
    ran = rsgi(arguments, directory)
    assert ran.returncode == 0, ran.stderr
    assert "no effect" not in ran.stderr


def write_file(page: str, name: str, directory: Path) -> None:
    """Write the file as the page shows it; without that, an empty one."""
    shown = blocks(page, "python", "toml", "ini", "json", "yaml", "text")
    texts = [block.text for block in shown if block.name == name]
    path = directory / Path(name).name
    path.write_text(texts[0] if texts else "")


def check_pip(words: list[str], directory: Path, page: str) -> None:
    """See that what is installed exists: this project, or a package that the tests have, too."""
    names = [word for word in words[2:] if not word.startswith("-")]
    assert words[1] == "install"
    for name in names:
        project = re.split(r"[\[<>=]", name)[0]
        if project in {".", "rsgi"} or (ROOT / name).exists() or name == "requirements.txt":
            continue
        importlib.metadata.version(project)


def check_make(words: list[str], directory: Path, page: str) -> None:
    """See that there is such a target."""
    for target in words[1:]:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def check_docker(words: list[str], directory: Path, page: str) -> None:
    """See that stages, arguments and services exist; `tests/docker` runs them."""
    assert words[1] in {"build", "run", "kill", "stop", "compose", "logs", "exec"}, words
    dockerfile = (ROOT / "Dockerfile").read_text()
    options = dict(pairwise(words))
    if "--target" in options:
        assert f" AS {options['--target']}\n" in dockerfile
    for flag, value in pairwise(words):
        if flag == "--build-arg":
            assert f"ARG {value.partition('=')[0]}=" in dockerfile
    if words[1] == "compose":
        services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
        assert words[2] in {"up", "down", "exec", "logs", "ps", "kill"}
        if words[2] == "exec":
            assert words[3] in services


def check_kubectl(words: list[str], directory: Path, page: str) -> None:
    """See that the files exist, and the objects in them."""
    assert words[1] in {"apply", "rollout", "exec", "describe", "set", "logs"}
    manifests = list(yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text()))
    objects = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in manifests}
    for word in words:
        if word.startswith("deploy/"):
            assert (ROOT / word).exists(), word
        elif re.match(r"(deployment|service)/", word):
            assert word in objects


def check_systemctl(words: list[str], directory: Path, page: str) -> None:
    """See that the units exist."""
    units = {path.name for path in (ROOT / "deploy").iterdir()}
    for word in words[2:]:
        if not word.startswith("-"):
            assert word in units or f"{word}.service" in units, word


def check_copy(words: list[str], directory: Path, page: str) -> None:
    """See that the files of this repository exist."""
    for word in words[1:-1]:
        assert (ROOT / word).exists(), word


def check_kill(words: list[str], directory: Path, page: str) -> None:
    """See that the signal is one that the reference explains."""
    signals = (ROOT / "docs/reference/signals-and-exit-codes.md").read_text()
    for word in words[1:]:
        if re.fullmatch(r"-[A-Z]\w+", word):
            assert re.search(rf"^\| .*\b{word[1:]}\b.* \|", signals, re.MULTILINE), word


def check_cargo(words: list[str], directory: Path, page: str) -> None:
    """See that the package exists."""
    for flag, value in pairwise(words):
        if flag in {"-p", "--package"}:
            manifests = (ROOT / "crates").glob("*/Cargo.toml")
            names = [tomllib.loads(path.read_text())["package"]["name"] for path in manifests]
            assert value in names


def check_shell(words: list[str], directory: Path, page: str) -> None:
    """See that a script of this repository exists."""
    assert (ROOT / words[0]).exists(), words[0]


def check_nothing(words: list[str], directory: Path, page: str) -> None:
    """Accept a program of somebody else's; the reason stands beside it in `CHECKS`."""


def check_local(words: list[str], directory: Path, page: str) -> None:
    """See that a client asks a server of the reader's own; `test_programs` runs those it can."""
    urls = [word for word in words if "://" in word]
    assert urls, "asks nobody"
    for url in urls:
        assert re.match(r"\w+://(127\.0\.0\.1|localhost|\[::1\]|example\.com)([:/]|$)", url), url


Check = Callable[[list[str], Path, str], None]
CHECKS: dict[str, Check] = {
    "rsgi": check_rsgi,
    "pip": check_pip,
    "make": check_make,
    "docker": check_docker,
    "kubectl": check_kubectl,
    "systemctl": check_systemctl,
    "cp": check_copy,
    "kill": check_kill,
    "cargo": check_cargo,
    "curl": check_local,
    "wrk": check_local,
    "h2load": check_local,
    "websocat": check_local,
    "python3": check_nothing,  # makes a virtual environment: `scripts/setup` does
    "python": check_nothing,  # a program that a page shows: `test_code` runs those that are whole
    ".": check_nothing,  # enters the virtual environment
    "cd": check_nothing,  # into what the command before has made
    "django-admin": check_nothing,  # `test_programs` runs it
    "openssl": check_nothing,  # converts a key of the reader's; `tests/tls` reads such keys
    "nginx": check_nothing,  # needs the reader's configuration; `tests/proxies` runs a real one
}


@pytest.mark.parametrize("command", ALL, ids=str)
def test_a_command_is_right(command: Command, reader: Path) -> None:
    page = command.where.partition(":")[0]
    for words in command.parts():
        while re.match(r"^[A-Z_]+=", words[0]):  # a variable of the command
            words = words[1:]
        program = words[0]
        if program.startswith(("scripts/", "./")):
            check_shell(words, reader, page)
            continue
        assert program in CHECKS, f"{command.where}: nobody checks `{program}`"
        CHECKS[program](words, reader, page)


def settings_elsewhere() -> list[tuple[str, list[str]]]:
    """Return the commands of rsgi that stand in a Dockerfile, a unit, a manifest or a sentence."""
    found = []
    listed = re.compile(r'\["rsgi",[^\]]*\]')
    for page in pages():
        texts = [block.text for block in blocks(page, "dockerfile", "yaml")]
        found += [(page, json.loads(one)) for text in texts for one in listed.findall(text)]
        for span in spans(page):
            is_table_of_others = re.fullmatch(r"docs/guides/from-\w+\.md", page)
            if re.match(r"rsgi [^`]*\w:\w", span) and "..." not in span and not is_table_of_others:
                found.append((page, span.split()))
        for block in blocks(page, "ini", "systemd"):
            lines = re.findall(r"^ExecStart=(?:\S*/)?(rsgi .*)", block.text, re.MULTILINE)
            found += [(page, line.split()) for line in lines]
    for name in ["Dockerfile", "compose.yaml"]:
        text = (ROOT / name).read_text()
        found += [(name, json.loads(one)) for one in listed.findall(text)]
    unit = (ROOT / "deploy/rsgi.service").read_text()
    (line,) = re.findall(r"^ExecStart=\S*/(rsgi .*)", unit, re.MULTILINE)
    found.append(("deploy/rsgi.service", line.split()))
    for manifest in yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text()):
        if manifest["kind"] == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            words = [*container["command"], *container["args"]]
            found.append(("deploy/kubernetes.yaml", words))
    return found


@pytest.mark.parametrize(("where", "words"), settings_elsewhere())
def test_a_command_in_a_file_or_a_sentence_is_right(
    where: str, words: list[str], reader: Path
) -> None:
    check_rsgi(words, reader, where)
