"""Fixtures: the engine, the image, and containers that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docker.engine import Container, Engine
from tests.support.server import ROOT

Run = Callable[..., Container]

#: What `docker run` shows the image of the test's applications.
TESTS = ("--volume", f"{ROOT / 'tests'}:/app/tests:ro", "--env", "PYTHONDONTWRITEBYTECODE=1")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Return a Docker engine."""
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the project's image."""
    return engine.image(tmp_path_factory.mktemp("image"))


@pytest.fixture
def run(image: str) -> Iterator[Run]:
    """Start containers of the project's image."""
    containers: list[Container] = []

    def start(*arguments: str, flags: tuple[str, ...] = (), image: str = image) -> Container:
        containers.append(Container(image, *arguments, flags=flags))
        return containers[-1]

    yield start
    for container in containers:
        container.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory that everybody in a container can read."""
    tmp_path.chmod(0o755)
    return tmp_path
