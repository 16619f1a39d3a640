"""Messages that make no sense are refused with an error; the client never sees two responses."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from _pytest.mark import ParameterSet

from tests.apps.misusing import HOSTILE_FIELDS, WRONG_FIRST
from tests.conftest import Shared
from tests.support.flavour import fails_on_uvicorn
from tests.support.server import Server
from tests.support.waiting import eventually
from tests.support.wire import Cut

# What uvicorn refuses as it should; it takes the rest, or fails after it wrote something.
REFUSED_BY_UVICORN = {
    "body-before-start", "no-type", "unknown-type", "websocket-message",
}  # fmt: skip


def marked(names: Iterable[str]) -> list[ParameterSet]:
    checks_less = fails_on_uvicorn("does not check this")
    return [
        pytest.param(name, marks=() if name in REFUSED_BY_UVICORN else checks_less)
        for name in sorted(names)
    ]


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared("tests.apps.misusing:app", allow_tracebacks=True)


@pytest.mark.parametrize("name", marked(WRONG_FIRST))
def test_a_wrong_first_message_raises_and_the_application_can_still_answer(
    server: Server, name: str
) -> None:
    with server.connect() as wire:
        response = wire.get(f"/wrong/{name}")
    assert response.status == 200
    assert b"kind" in response.body, f"accepted: {response}"


@pytest.mark.parametrize("name", ["body-before-start", "unknown-type", "websocket-message"])
def test_the_error_names_the_message(server: Server, name: str) -> None:
    assert WRONG_FIRST[name]["type"] in server.get(f"/wrong/{name}").json()["text"]


def test_the_error_of_a_body_before_the_start_names_what_is_missing(server: Server) -> None:
    text = server.get("/wrong/body-before-start").json()["text"]
    assert "http.response.start" in text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("status-is-str", "TypeError"),
        ("header-name-is-str", "TypeError"),
        ("header-value-is-str", "TypeError"),
        ("headers-is-int", "TypeError"),
    ],
)
@fails_on_uvicorn("does not look at the types")
def test_a_value_of_the_wrong_type_is_a_type_error(server: Server, name: str, kind: str) -> None:
    assert server.get(f"/wrong/{name}").json()["kind"] == kind


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("status-is-str", "status"),
        ("no-status", "status"),
        ("header-value-is-str", "header"),
        ("headers-is-int", "headers"),
    ],
)
@fails_on_uvicorn("does not look at the types")
def test_the_error_names_the_key(server: Server, name: str, word: str) -> None:
    assert word in server.get(f"/wrong/{name}").json()["text"].lower()


@pytest.mark.parametrize("name", marked(HOSTILE_FIELDS))
def test_a_hostile_header_raises_and_the_application_can_still_answer(
    server: Server, name: str
) -> None:
    with server.connect() as wire:
        response = wire.get(f"/hostile/{name}")
    assert b"kind" in response.body, f"accepted: {response}"


@pytest.mark.parametrize("name", sorted(HOSTILE_FIELDS))
def test_a_hostile_header_does_not_reach_the_client(server: Server, name: str) -> None:
    with server.connect() as wire:
        wire.request(f"/hostile/{name}", headers=(("Connection", "close"),))
        head = wire.read_to_end().partition(b"\r\n\r\n")[0].lower()
    assert b"set-cookie" not in head
    assert b"\x00" not in head


def test_a_second_start_raises(server: Server, key: str) -> None:
    server.get(f"/second-start?{key}")
    assert "http.response.start" in server.journal(key)[0]


def test_a_second_start_does_not_harm_the_response(server: Server, key: str) -> None:
    with server.connect() as wire:
        response = wire.get(f"/second-start?{key}")
        assert (response.status, response.body) == (200, b"ok")


def test_a_body_after_the_end_raises(server: Server, key: str) -> None:
    server.get(f"/body-after-end?{key}")
    (entry,) = entries(server, key)
    assert "http.response.body" in entry


def entries(server: Server, key: str) -> list[str]:
    return eventually(lambda: server.journal(key), "an entry")


def test_a_body_after_the_end_does_not_reach_the_client(server: Server, key: str) -> None:
    with server.connect() as wire:
        assert wire.get(f"/body-after-end?{key}").body == b"ok"
        assert wire.get(f"/journal?{key}").status == 200


@fails_on_uvicorn("fails inside and loses the response")
def test_a_text_body_raises_a_type_error(server: Server, key: str) -> None:
    with server.connect() as wire:
        assert wire.get(f"/body-is-str?{key}").body == b"ok"
    assert "TypeError" in server.journal(key)[0]


def test_unannounced_trailers_raise(server: Server, key: str) -> None:
    with server.connect() as wire:
        assert wire.get(f"/trailers-unannounced?{key}").body == b"ok"
    assert "http.response.trailers" in server.journal(key)[0]


def test_something_that_is_no_message_raises(server: Server, key: str) -> None:
    with server.connect() as wire:
        assert wire.get(f"/message-is-list?{key}").body == b"ok"
    assert server.journal(key) != ["accepted"]


# Content-Length is a promise


@pytest.mark.parametrize("scenario", ["too-much", "too-much-at-once"])
def test_more_than_the_content_length_raises(server: Server, key: str, scenario: str) -> None:
    with server.connect() as wire:
        wire.request(f"/{scenario}?{key}")
        wire.read_to_end()
    (entry,) = entries(server, key)
    assert entry != "accepted"


@pytest.mark.parametrize("scenario", ["too-much", "too-much-at-once"])
def test_more_than_the_content_length_never_leaves(server: Server, key: str, scenario: str) -> None:
    with server.connect() as wire:
        wire.request(f"/{scenario}?{key}")
        body = wire.read_to_end().partition(b"\r\n\r\n")[2]
    assert b"world" not in body


def test_after_more_than_the_content_length_the_connection_is_cut(server: Server, key: str) -> None:
    with server.connect() as wire:
        wire.request(f"/too-much?{key}")
        head = wire.read_head()
        assert head.value(b"content-length") == b"5"
        assert len(wire.read_to_end()) < 5


def test_less_than_the_content_length_is_cut(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/too-little")
        with pytest.raises(Cut):
            wire.read_response()


def test_less_than_the_content_length_in_one_message_is_500_or_cut(server: Server) -> None:
    """The head has not left yet: the server may still say that it failed."""
    with server.connect() as wire:
        wire.request("/too-little-at-once")
        try:
            status = wire.read_response().status
        except Cut:
            status = 500
        assert status == 500


def test_less_than_the_content_length_is_logged(server: Server) -> None:
    since = server.mark()
    with server.connect() as wire:
        wire.request("/too-little")
        wire.read_to_end()
    server.wait_for_log(r"(?i)content-length", since)
