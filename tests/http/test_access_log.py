"""The access log: one line per response on standard output, in the known form."""

from __future__ import annotations

import re

import pytest

from tests.conftest import Shared
from tests.support.flavour import fails_on_uvicorn, rsgi_only
from tests.support.server import Server

APP = "tests.apps.sending:app"


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared(APP)


def test_a_request_is_one_line_in_the_known_form(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.get(f"/length?{key}")
        line = server.wait_for_access_line(key)
        assert re.fullmatch(
            rf'INFO:     {re.escape(wire.name)} - "GET /length\?{key} HTTP/1\.1" 200 OK', line
        )


def test_a_request_is_logged_once(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.get(f"/length?{key}")
        wire.get("/length?end" + key)
    server.wait_for_access_line("end" + key)
    assert server.stdout().count(f"?{key}") == 1


def test_the_line_is_written_soon_although_nothing_follows(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.get(f"/length?{key}")
        server.wait_for_access_line(key, deadline=2)


@pytest.mark.parametrize(
    ("target", "tail"), [("/status?404", "404 Not Found"), ("/nothing-here", "404 Not Found")]
)
def test_the_status_is_in_the_line(server: Server, target: str, tail: str) -> None:
    server.get(target)
    assert server.wait_for_access_line(re.escape(target)).endswith(tail)


@pytest.mark.parametrize("bad", ["%0d%0aINFO:", "%1b[31m", "%22"])
def test_an_encoded_target_cannot_forge_a_line(server: Server, key: str, bad: str) -> None:
    server.get(f"/length?{key}{bad}")
    line = server.wait_for_access_line(key)
    assert line.endswith('HTTP/1.1" 200 OK')


@rsgi_only("writes it as it came or refuses it")
def test_a_raw_control_byte_in_the_target_does_not_reach_the_log(server: Server) -> None:
    with server.connect() as wire:
        wire.send_as_far_as_accepted(b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n")
        wire.read_to_end()
    assert "\x1b" not in server.stdout() + server.stderr()


def test_no_access_log_writes_nothing(shared: Shared) -> None:
    server = shared(APP, "--no-access-log")
    server.get("/length")
    assert server.stdout() == ""


def test_a_500_is_logged_as_one(shared: Shared, key: str) -> None:
    server = shared("tests.apps.failing:app", allow_tracebacks=True)
    server.get(f"/before-start?{key}")
    assert server.wait_for_access_line(key).endswith("500 Internal Server Error")


@fails_on_uvicorn("logs no request that it refused")
def test_a_refused_request_is_in_one_of_the_logs_with_its_peer(shared: Shared) -> None:
    server = shared(APP)
    with server.connect() as wire:
        name = wire.name
        wire.send(b"GET / HTTP/1.1\r\n\r\n")
        wire.read_to_end()
    server.wait_for_log(re.escape(name), deadline=3)
