"""Clients that others have written, as programs."""

from __future__ import annotations

import shutil
import subprocess

import pytest

PATIENCE = 30.0


def tool(name: str) -> str:
    """Return the path of a program, or skip the test."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command: str, stdin: str = "") -> str:
    """Run a client; return what it writes: openssl shows keys and tickets byte by byte."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def curl_with_http2() -> str:
    """Return the path of a curl that speaks HTTP/2, or skip the test."""
    curl = tool("curl")
    if "HTTP2" not in run(curl, "--version"):
        pytest.skip("curl is built without HTTP/2")
    return curl
