"""Limits on bodies, heads and concurrency."""

from __future__ import annotations

import pytest

from tests.conftest import Serve, Shared
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.waiting import eventually

APP = "tests.apps.receiving:app"


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared(APP, "--limit-request-body", "1000")


def test_a_body_at_the_limit_is_taken(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", body=b"x" * 1000)
        assert wire.read_response().status == 200


def test_a_length_over_the_limit_is_413_before_the_body_comes(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", (("Content-Length", "1001"),))
        assert wire.read_response().status == 413


def test_a_length_over_the_limit_does_not_reach_the_application(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.request(f"/expect?{key}", "POST", (("Content-Length", "1001"),))
        wire.read_response()
    assert server.journal(key) == []


def test_a_length_over_the_limit_gets_413_instead_of_100(server: Server) -> None:
    with server.connect() as wire:
        headers = (("Content-Length", "1001"), ("Expect", "100-continue"))
        wire.request("/echo", "POST", headers)
        response = wire.read_response()
        assert (response.status, response.informational) == (413, [])


def test_chunks_over_the_limit_are_413(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", (("Transfer-Encoding", "chunked"),))
        for _ in range(11):
            wire.send_as_far_as_accepted(b"64\r\n" + b"x" * 100 + b"\r\n")
        assert wire.read_response().status == 413


def test_413_ends_the_connection(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", (("Content-Length", "1001"),))
        assert wire.read_response().value(b"connection") == b"close"
        wire.assert_closed()


def test_413_is_not_lost_when_the_client_goes_on_sending(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/echo", "POST", (("Content-Length", "2000000"),))
        wire.send_as_far_as_accepted(b"x" * 2_000_000)
        assert wire.read_response().status == 413


def test_a_head_over_its_limit_is_431(shared: Shared) -> None:
    with shared(APP, "--limit-request-head-size", "4096").connect() as wire:
        wire.request("/nothing", headers=(("X", "a" * 5000),))
        assert wire.read_response().status == 431


def test_fields_over_their_limit_are_431(shared: Shared) -> None:
    with shared(APP, "--limit-request-fields", "10").connect() as wire:
        wire.request("/nothing", headers=(("X", "1"),) * 10)
        assert wire.read_response().status == 431


def test_fields_at_their_limit_are_taken(shared: Shared) -> None:
    with shared(APP, "--limit-request-fields", "10").connect() as wire:
        wire.request("/nothing", headers=(("X", "1"),) * 9)
        assert wire.read_response().status == 200


@rsgi_only("counts idle connections, too")
def test_concurrency_over_the_limit_is_503(serve: Serve, key: str) -> None:
    server = serve(APP, "--limit-concurrency", "2")
    wires = [server.connect() for _ in range(2)]
    for wire in wires:
        wire.request(f"/never-reads?{key}")
    with server.connect() as third:

        def is_refused() -> bool:
            return third.get("/nothing").status == 503

        assert eventually(is_refused, "503")


@rsgi_only("counts idle connections, too")
def test_concurrency_is_free_again_after_a_request(serve: Serve, key: str) -> None:
    server = serve(APP, "--limit-concurrency", "1")
    with server.connect() as wire:
        for _ in range(5):
            assert wire.get("/nothing").status == 200


@rsgi_only("counts idle connections, too")
def test_idle_connections_do_not_count_as_concurrency(serve: Serve) -> None:
    server = serve(APP, "--limit-concurrency", "2")
    wires = [server.connect() for _ in range(10)]
    assert [wire.get("/nothing").status for wire in wires] == [200] * 10
