"""Which server is under test, and what that one cannot do.

`RSGI_TEST_SERVER=uvicorn` runs the same tests against uvicorn: it shows that a test asks for
behaviour that exists outside this project. Where uvicorn differs, the test says so with its reason.
"""

from __future__ import annotations

import os
import sys

import pytest

NAME = os.environ.get("RSGI_TEST_SERVER", "rsgi")
IS_RSGI = NAME == "rsgi"

# What uvicorn 0.54 knows of the flags used here. A test that needs another one is skipped there.
_UVICORN_FLAGS = frozenset(
    {
        "--access-log", "--app-dir", "--backlog", "--date-header", "--factory", "--fd",
        "--forwarded-allow-ips", "--header", "--host", "--http", "--interface", "--lifespan",
        "--limit-concurrency", "--limit-max-requests", "--log-level", "--loop", "--no-access-log",
        "--no-date-header", "--no-proxy-headers", "--no-server-header", "--port", "--proxy-headers",
        "--reload", "--root-path", "--server-header", "--timeout-graceful-shutdown",
        "--timeout-keep-alive", "--uds", "--workers", "--ws",
    }
)  # fmt: skip


def command(*arguments: str) -> list[str]:
    """Return the command line that starts the server under test."""
    return [sys.executable, "-m", NAME, *arguments]


def unknown_flags(arguments: tuple[str, ...]) -> list[str]:
    """Return the flags in `arguments` that the server under test does not have."""
    if IS_RSGI:
        return []
    flags = (word.partition("=")[0] for word in arguments if word.startswith("-"))
    return [flag for flag in flags if flag not in _UVICORN_FLAGS]


def skip_unless_known(arguments: tuple[str, ...]) -> None:
    """Skip the running test if the server under test lacks one of the flags."""
    if unknown := unknown_flags(arguments):
        pytest.skip(f"{NAME} has no {', '.join(unknown)}")


def fails_on_uvicorn(reason: str) -> pytest.MarkDecorator:
    """Mark a test that uvicorn runs and fails: `reason` says how it differs."""
    return pytest.mark.xfail(not IS_RSGI, reason=f"uvicorn {reason}", strict=True)


def varies_on_uvicorn(reason: str) -> pytest.MarkDecorator:
    """Mark a test whose outcome on uvicorn depends on timing or on the Python version."""
    return pytest.mark.xfail(not IS_RSGI, reason=f"uvicorn {reason}", strict=False)


def rsgi_only(reason: str) -> pytest.MarkDecorator:
    """Mark a test that makes no sense, or takes for ever, on uvicorn."""
    return pytest.mark.skipif(not IS_RSGI, reason=f"uvicorn {reason}")


def clean_exit_after_term(workers: int) -> int:
    """Return the exit status of an orderly stop; uvicorn alone raises the signal again."""
    return 0 if IS_RSGI or workers > 1 else -15
