"""An application that raises or stops early: 500 or a visible cut, and always a log."""

from __future__ import annotations

import pytest

from tests.conftest import Serve, Shared
from tests.support.flavour import fails_on_uvicorn, rsgi_only
from tests.support.server import Server
from tests.support.wire import Cut

BEFORE_START = [
    ("before-start", "ValueError: raised before the start"),
    ("after-await", "ValueError: raised after an await"),
    ("after-body-read", "ValueError: raised after the body"),
    ("stop-iteration", "StopAsyncIteration"),
    ("group", "one of the group"),
    ("recursion", "RecursionError"),
]

OUTSIDE_EXCEPTION = [
    ("base-exception", "NotAnException: outside"),
    ("cancelled", "CancelledError"),
    ("generator-exit", "GeneratorExit"),
]


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared("tests.apps.failing:app", allow_tracebacks=True)


@pytest.mark.parametrize("scenario", [name for name, _ in BEFORE_START])
def test_raising_before_the_start_is_500(server: Server, scenario: str) -> None:
    with server.connect() as wire:
        response = wire.get(f"/{scenario}")
        assert (response.status, response.body) == (500, b"Internal Server Error")


def test_the_500_is_plain_text(server: Server) -> None:
    with server.connect() as wire:
        content_type = wire.get("/before-start").value(b"content-type") or b""
        assert content_type.startswith(b"text/plain")


def test_the_500_to_a_head_has_no_body(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/before-start", "HEAD")
        assert wire.read_response("HEAD").status == 500
        assert wire.read_to_end() == b"" if wire.is_readable(0.1) else True


@pytest.mark.parametrize(("scenario", "line"), BEFORE_START)
def test_raising_is_logged_with_its_error(server: Server, scenario: str, line: str) -> None:
    since = server.mark()
    server.get(f"/{scenario}")
    server.wait_for_log(line, since)


def test_raising_is_logged_with_the_known_words_and_a_traceback(server: Server) -> None:
    since = server.mark()
    server.get("/before-start")
    server.wait_for_log(
        r"Exception in ASGI application\s+Traceback \(most recent call last\)", since
    )
    server.wait_for_log(r"in raise_before_start", since)


@pytest.mark.parametrize(("scenario", "line"), OUTSIDE_EXCEPTION)
def test_raising_outside_exception_is_500_too(server: Server, scenario: str, line: str) -> None:
    with server.connect() as wire:
        assert wire.get(f"/{scenario}").status == 500


@pytest.mark.parametrize(("scenario", "line"), OUTSIDE_EXCEPTION)
def test_raising_outside_exception_is_logged_too(server: Server, scenario: str, line: str) -> None:
    since = server.mark()
    with server.connect() as wire:
        wire.get(f"/{scenario}")
    server.wait_for_log(line, since)


@rsgi_only("ends with one worker")
def test_sys_exit_in_a_handler_replaces_the_worker(serve: Serve) -> None:
    server = serve("tests.apps.failing:app", allow_tracebacks=True)
    (before,) = server.worker_pids()
    with server.connect() as wire:
        wire.request("/system-exit")
        wire.read_to_end()
    server.wait_for_workers(1, without=before)
    assert server.get("/fine").text == "fine"
    # asyncio may say so of a task that ends its loop: nobody is left to ask for the exception.
    assert set(server.complaints()) <= {"Task exception was never retrieved"}


@fails_on_uvicorn("has sent the head with the start message")
def test_raising_after_the_start_message_alone_is_still_500(server: Server) -> None:
    """The head leaves with the first body message, so nothing has been promised yet."""
    with server.connect() as wire:
        response = wire.get("/after-start")
        assert (response.status, response.value(b"x-mine")) == (500, None)


@pytest.mark.parametrize("scenario", ["after-chunk", "after-part", "early", "early-with-length"])
def test_stopping_in_mid_body_cuts_the_connection(server: Server, scenario: str) -> None:
    with server.connect() as wire:
        wire.request(f"/{scenario}")
        with pytest.raises(Cut):
            wire.read_response()


@pytest.mark.parametrize("scenario", ["after-chunk", "early"])
def test_stopping_in_mid_body_sends_no_last_chunk(server: Server, scenario: str) -> None:
    with server.connect() as wire:
        wire.request(f"/{scenario}")
        assert wire.read_to_end().endswith(b"5\r\nfirst\r\n")


@pytest.mark.parametrize("scenario", ["after-chunk", "after-part", "after-end"])
def test_raising_after_the_start_is_logged(server: Server, scenario: str) -> None:
    since = server.mark()
    with server.connect() as wire:
        wire.request(f"/{scenario}", headers=(("Connection", "close"),))
        wire.read_to_end()
    server.wait_for_log(r"raised after (a chunk|a part|the end)", since)


@pytest.mark.parametrize("scenario", ["early", "early-with-length"])
def test_returning_in_mid_body_is_logged(server: Server, scenario: str) -> None:
    since = server.mark()
    with server.connect() as wire:
        wire.request(f"/{scenario}")
        wire.read_to_end()
    server.wait_for_log(r"ERROR:\s+ASGI callable returned without completing response", since)


def test_raising_after_the_end_does_not_harm_the_response(server: Server) -> None:
    with server.connect() as wire:
        assert wire.get("/after-end").body == b"complete"


@pytest.mark.parametrize("scenario", ["silent", "only-start"])
def test_returning_without_a_body_is_500_or_a_cut(server: Server, scenario: str) -> None:
    with server.connect() as wire:
        wire.request(f"/{scenario}")
        try:
            response = wire.read_response()
        except Cut:
            assert scenario == "only-start"
        else:
            assert (response.status, response.body) == (500, b"Internal Server Error")


def test_returning_without_an_answer_is_logged(server: Server) -> None:
    since = server.mark()
    server.get("/silent")
    server.wait_for_log(r"ERROR:\s+ASGI callable returned without starting response", since)


@pytest.mark.parametrize(
    "scenario", ["before-start", "after-chunk", "silent", "early", "cancelled"]
)
def test_the_next_connection_is_served(server: Server, scenario: str) -> None:
    with server.connect() as wire:
        wire.request(f"/{scenario}", headers=(("Connection", "close"),))
        wire.read_to_end()
    assert server.get("/fine").text == "fine"


def test_a_failed_background_task_does_not_harm_the_response(server: Server) -> None:
    assert server.get("/background-task").text == "fine"


def test_a_warning_is_shown_once_and_harms_nothing(server: Server) -> None:
    since = server.mark()
    assert server.get("/warning").text == "fine"
    server.wait_for_log("only a warning", since)


def test_an_error_with_an_unread_body_is_500(server: Server) -> None:
    with server.connect() as wire:
        wire.request("/before-start", "POST", body=b"x" * 10_000)
        assert wire.read_response().status == 500
