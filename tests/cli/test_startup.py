"""How long the command takes until it does something.

The bars, on a quiet machine: `rsgi --help` within 60 ms, and from the start to the first response
of a bare application within 1.2 times `python -c 'import asyncio'` and 60 ms. A busy machine is
slower at both, so the best of several runs side by side counts here, with twice the time.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import flavour
from tests.support.flavour import rsgi_only

pytestmark = [rsgi_only("is not what is measured"), pytest.mark.timeout(180)]

RUNS = 5
MARGIN = 2.0

APP = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


def seconds(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def run(*command: str) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)


def test_the_help_and_the_first_response_come_soon(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(APP)

    def respond() -> None:
        server = serve("bare:app", "--lifespan", "off", cwd=tmp_path)
        assert server.get("/").text == "hello"

    def measure() -> tuple[float, float, float, float]:
        return (
            seconds(lambda: run(sys.executable, "-c", "pass")),
            seconds(lambda: run(sys.executable, "-c", "import asyncio")),
            seconds(lambda: run(*flavour.command("--help"))),
            seconds(respond),
        )

    runs = [measure() for _ in range(RUNS)]
    bare, asyncio, shown, answered = (min(times) for times in zip(*runs, strict=True))
    line = f"python {bare:.3f}, asyncio {asyncio:.3f}, help {shown:.3f}, first {answered:.3f} s"
    print(line)  # noqa: T201
    assert shown < bare + MARGIN * 0.060, line
    assert answered < MARGIN * (1.2 * asyncio + 0.060), line
