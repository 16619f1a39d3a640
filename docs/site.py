"""What turns docs/ into a site that is not in its pages: the navigation, and files beside docs/.

The navigation is `docs/index.md`: its headings are the sections, its links the pages. A page that
is not in the list is a warning of mkdocs, which `--strict` makes an error. The files that the root
of the repository has (CONTRIBUTING.md and so on) are pages of the site, too.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
#: Files of the repository outside of docs/, and what they are called in the site.
BESIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "crates/README.md": "crates.md",
}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Read the navigation from the index."""
    text = (ROOT / "docs/index.md").read_text()
    navigation: list[Any] = [{"rsgi": "index.md"}]
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, content = section.partition("\n")
        pages = [
            {title[0].upper() + title[1:]: _in_site(_path("docs/index.md", target))}
            for title, target in _LINK.findall(content)
            if "://" not in target
        ]
        navigation.append({heading.partition(":")[0]: pages})
    decisions = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    navigation.append({"Decisions": [f"decisions/{path.name}" for path in decisions]})
    config.nav = navigation
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files beside docs/."""
    for path, name in BESIDE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that leave or enter docs/ find the page of the site."""
    source = Path(page.file.abs_src_path or "").relative_to(ROOT).as_posix()

    def replace(link: re.Match[str]) -> str:
        title, target = link.groups()
        path, mark, anchor = target.partition("#")
        if "://" in target or not path:
            return link.group()
        inside = _in_site(_path(source, path))
        start = posixpath.dirname(page.file.src_uri)
        return f"[{title}]({posixpath.relpath(inside, start or '.')}{mark}{anchor})"

    return _LINK.sub(replace, markdown)


def _path(source: str, target: str) -> str:
    """Return where a link of the file `source` leads, in the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _in_site(path: str) -> str:
    """Return what the file is called in the site."""
    if path in BESIDE:
        return BESIDE[path]
    # What is neither there nor in docs/ is found to be missing by mkdocs.
    return path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}"
