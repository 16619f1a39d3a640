"""Extensions: one that is advertised works, one that is not is refused (ASGI "Extensions")."""

from __future__ import annotations

import json

import pytest

from tests.apps import sending
from tests.conftest import Shared
from tests.support.flavour import rsgi_only
from tests.support.server import Server

WITH_TRAILERS = (("TE", "trailers"),)

pytestmark = rsgi_only("advertises no extension on HTTP/1.1")


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared("tests.apps.sending:app", allow_tracebacks=True)


def advertised(server: Server) -> set[str]:
    return set(server.get("/extensions").json())


def test_trailers_are_advertised_to_a_client_that_takes_them(server: Server) -> None:
    with server.connect() as wire:
        names = json.loads(wire.get("/extensions", WITH_TRAILERS).body)
    assert "http.response.trailers" in names


def test_debug_is_advertised(server: Server) -> None:
    assert "http.response.debug" in advertised(server)


def test_trailers_reach_a_client_that_takes_them(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/trailers", WITH_TRAILERS)
        assert (response.body, response.trailers) == (b"body", [(b"x-sum", b"42")])


def test_trailers_are_dropped_for_a_client_that_does_not_take_them(server: Server) -> None:
    """RFC 9110, 6.5.1: without `TE: trailers` they may be lost, so they are not sent."""
    with server.connect() as wire:
        response = wire.get("/trailers")
        assert (response.body, response.trailers) == (b"body", [])


def test_trailers_leave_the_connection_usable(server: Server) -> None:
    with server.connect() as wire:
        wire.get("/trailers", WITH_TRAILERS)
        assert wire.get("/length").body == b"hello"


def test_trailers_after_head_are_not_sent(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/trailers", "HEAD", WITH_TRAILERS)
        wire.read_response("HEAD")
        assert wire.get("/length").body == b"hello"


def test_early_hints_are_advertised_if_and_only_if_they_work(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/early-hint")
    works = [head.status for head in response.informational] == [103]
    assert works == ("http.response.early_hint" in advertised(server))


def test_early_hints_carry_the_links(server: Server) -> None:
    assert "http.response.early_hint" in advertised(server)
    with server.connect() as wire:
        hints = wire.get("/early-hint").informational[0]
    assert b", ".join(hints.values(b"link")) == (
        b"</style.css>; rel=preload; as=style, </x.js>; rel=preload; as=script"
    )


def test_early_hints_are_not_sent_to_http_1_0(server: Server) -> None:
    with server.connect() as wire:
        wire.send(b"GET /early-hint HTTP/1.0\r\n\r\n")
        assert wire.read_response().informational == []


def test_debug_is_taken_and_not_sent(server: Server) -> None:
    with server.connect() as wire:
        response = wire.get("/debug")
        assert (response.status, response.body, response.informational) == (200, b"final", [])


def test_pathsend_is_advertised_if_and_only_if_it_works(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/pathsend", headers=(("Connection", "close"),))
        received = wire.read_to_end()
    with open(sending.__file__, "rb") as source:
        works = source.read() in received
    assert works == ("http.response.pathsend" in advertised(server))
