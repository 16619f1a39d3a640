"""A directory like the reader's."""

from __future__ import annotations

from pathlib import Path

import pytest

#: The application that stands for the reader's where a page shows none.
APP = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """Return a directory with an application `main:app`."""
    (tmp_path / "main.py").write_text(APP)
    return tmp_path
