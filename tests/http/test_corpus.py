"""The corpus (`tests/requests/{valid,invalid}/NAME.http` with `NAME.toml`) over a real socket."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Shared
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.wire import Wire

pytestmark = rsgi_only("accepts part of the invalid ones")

CORPUS = Path(__file__).parents[1] / "requests"


def expectation(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.with_suffix(".toml").read_text())


def corpus(kind: str) -> list[Path]:
    return sorted((CORPUS / kind).glob("*.http"))


# What no HTTP/1 parser takes, and the whole server understands: HTTP/2 by prior knowledge.
HTTP2 = "rfc9113_3_4_http_2_preface"
INVALID = [
    path for path in corpus("invalid") if expectation(path)["status"] != 0 and path.stem != HTTP2
]
# Status 0: what came is not yet wrong, it only stops too early.
INCOMPLETE = [path for path in corpus("invalid") if expectation(path)["status"] == 0]
# An upgrade needs an application that speaks WebSocket.
VALID = [path for path in corpus("valid") if "upgrade" not in expectation(path)]

# Byte by byte takes a segment per byte: every fifth file, and none of the huge ones.
MAX_BYTEWISE = 2000


def sample(paths: list[Path]) -> list[Path]:
    return [path for path in paths[::5] if path.stat().st_size < MAX_BYTEWISE]


def name_of(path: Path) -> str:
    return path.stem


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared("tests.apps.corpus:app")


def deliver(wire: Wire, path: Path, *, bytewise: bool) -> None:
    if bytewise:
        wire.send_bytewise(path.read_bytes())
    else:
        wire.send_as_far_as_accepted(path.read_bytes())


def check_refusal(server: Server, path: Path, *, bytewise: bool) -> None:
    with server.connect() as wire:
        deliver(wire, path, bytewise=bytewise)
        response = wire.read_response()
        assert response.status == expectation(path)["status"]
        assert response.value(b"connection") == b"close"
        wire.assert_closed()


def check_service(server: Server, path: Path, *, bytewise: bool) -> None:
    expected = expectation(path)
    with server.connect() as wire:
        deliver(wire, path, bytewise=bytewise)
        response = wire.read_response(expected["method"])
        assert response.status == 200
        if expected["method"] != "HEAD":
            assert ast.literal_eval(response.body.decode()) == understood(expected)
        if "rest" in expected:
            return  # what follows is a request of its own
        if expected["keep_alive"]:
            assert wire.get("/").status == 200
        else:
            wire.assert_closed()


def with_host(expected: dict[str, Any]) -> list[tuple[str, str]]:
    """The fields; the authority of an absolute target wins over Host (RFC 9112, section 3.2.2)."""
    host = expected["host"] if expected.get("form") == "absolute" else None
    return [(n, host if n.lower() == "host" and host else v) for n, v in expected["fields"]]


def understood(expected: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": expected["method"].upper(),  # as ASGI has it
        "path": expected["path"].encode(),
        "query": expected["query"].encode(),
        "version": expected["version"],
        "fields": [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in with_host(expected)
        ],
        "body": expected["body"].encode("latin-1"),
    }


@pytest.mark.parametrize("path", INVALID, ids=name_of)
def test_an_invalid_request_gets_its_status(server: Server, path: Path) -> None:
    check_refusal(server, path, bytewise=False)


@pytest.mark.parametrize("path", INCOMPLETE, ids=name_of)
def test_an_incomplete_request_is_not_served(server: Server, path: Path) -> None:
    with server.connect() as wire:
        deliver(wire, path, bytewise=False)
        wire.finish_sending()
        assert not wire.read_to_end().startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", VALID, ids=name_of)
def test_a_valid_request_is_understood(server: Server, path: Path) -> None:
    check_service(server, path, bytewise=False)


@pytest.mark.parametrize("path", sample(INVALID), ids=name_of)
def test_an_invalid_request_byte_by_byte_gets_its_status(server: Server, path: Path) -> None:
    check_refusal(server, path, bytewise=True)


@pytest.mark.parametrize("path", sample(VALID), ids=name_of)
def test_a_valid_request_byte_by_byte_is_understood(server: Server, path: Path) -> None:
    check_service(server, path, bytewise=True)
