"""Each keyword of `uvicorn.run` does the same under `rsgi.run`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
import rsgi
import uvicorn

from tests.alike.program import Program
from tests.alike.rows import ROWS, UNSEEN, Row
from tests.support.flavour import rsgi_only

pytestmark = rsgi_only("is what is compared with")

#: Rows wait more than they work.
AT_ONCE = 4

Results = dict[str, Future[dict[str, Any]]]


def observe(row: Row, directory: Path) -> dict[str, Any]:
    """Run both servers with the keywords of a row, and return what the probe shows."""
    programs: list[Program] = []
    try:
        for server in ("uvicorn", "rsgi"):
            place = directory / row.name.replace(" ", "-") / server
            place.mkdir(parents=True)
            row.prepare(place)
            programs.append(Program(server, row.app, row.keywords(place), place, row.env))
        return {program.server: row.probe(program) for program in programs}
    finally:
        for program in programs:
            program.destroy()


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Results]:
    """Run the rows of all tests that were asked for, some at once."""
    directory = tmp_path_factory.mktemp("alike")
    rows: list[Row] = [
        cast("Any", item).callspec.params["row"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and hasattr(item, "callspec")
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {row.name: pool.submit(observe, row, directory) for row in rows}


@pytest.mark.timeout(300)  # the first one waits for its turn
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_keyword_does_the_same(row: Row, results: Results) -> None:
    seen = results[row.name].result()
    mine = row.expected if row.differs is None else row.differs[0]
    assert seen == {"uvicorn": row.expected, "rsgi": mine}


def test_a_factory_of_contexts_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="certificates are files"):
        rsgi.Config("main:app", ssl_context_factory=print)


def test_every_keyword_is_in_the_table() -> None:
    keywords = set(inspect.signature(uvicorn.run).parameters) - {"app"}
    seen = set().union(*(row.names() for row in ROWS))
    assert seen.isdisjoint(UNSEEN)
    assert seen | UNSEEN.keys() == keywords
