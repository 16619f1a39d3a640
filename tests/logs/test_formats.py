"""What a line tells: text, JSON, formats of one's own, and which requests have none."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve, Shared
from tests.support.flavour import rsgi_only
from tests.support.http2 import Http2
from tests.support.server import Server
from tests.support.waiting import eventually
from tests.support.websocket import open_client

APP = "tests.apps.logged:app"
SOCKETS = "tests.apps.sockets.scenarios:app"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
JSON = ("--log-format", "json")
PATIENCE = 30.0

pytestmark = rsgi_only("has one format")


def objects(text: str) -> list[dict[str, Any]]:
    """Parse every complete line."""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def wait_for_object(server: Server, **members: Any) -> dict[str, Any]:
    """Wait for a request in the JSON access log."""

    def probe() -> dict[str, Any] | None:
        found = (it for it in objects(server.stdout()) if members.items() <= it.items())
        return next(found, None)

    found = eventually(probe, f"an object with {members}", PATIENCE)
    assert found is not None
    return found


def wait_for_line(server: Server, pattern: str) -> str:
    """Wait for a whole line of standard output."""

    def probe() -> str:
        lines = server.stdout().split("\n")[:-1]
        return next((line for line in lines if re.search(pattern, line)), "")

    return eventually(probe, f"a line with {pattern!r}", PATIENCE)


# Text


def test_a_text_line_begins_as_uvicorns_and_tells_more_behind_it(shared: Shared, key: str) -> None:
    server = shared(APP)
    with server.connect() as wire:
        wire.get(f"/?{key}", (("X-Request-ID", key),))
        line = wait_for_line(server, key)
        assert re.fullmatch(
            rf'INFO:     {wire.name} - "GET /\?{key} HTTP/1\.1" 200 OK '
            rf"\d+\.\d{{3}}ms 5B id={key} "
            r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d+\]",
            line,
        )
    assert int(line.rpartition("[")[2].rstrip("]")) in server.worker_pids()


def test_lines_of_the_server_have_time_and_process_in_a_file(shared: Shared) -> None:
    server = shared(APP)
    for line in server.stderr().splitlines():
        assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d+\] INFO:     \S", line)


def test_colours_can_be_asked_for(serve: Serve) -> None:
    server = serve(APP, "--use-colors")
    server.get("/")
    assert "\x1b[32m200 OK\x1b[0m" in wait_for_line(server, "GET")
    assert "\x1b[32mINFO\x1b[0m:     " in server.stderr()


# JSON


@pytest.fixture
def json_server(shared: Shared) -> Server:
    return shared(APP, *JSON, allow_tracebacks=True)


def test_an_object_tells_everything_about_a_request(json_server: Server, key: str) -> None:
    with json_server.connect() as wire:
        fields = (("X-Request-ID", key), ("traceparent", TRACEPARENT))
        wire.get(f"/?{key}", fields)
        found = wait_for_object(json_server, query=key)
        name = wire.name
    time = datetime.fromisoformat(found.pop("time"))
    assert abs((datetime.now(UTC) - time).total_seconds()) < 60
    assert 0 < found.pop("duration") < 10
    assert found.pop("pid") in json_server.worker_pids()
    assert found == {
        "level": "info",
        "logger": "rsgi.access",
        "worker": 0,
        "peer": name,
        "method": "GET",
        "path": "/",
        "query": key,
        "http_version": "1.1",
        "type": "http",
        "status": 200,
        "bytes": 5,
        "request_id": key,
        "traceparent": TRACEPARENT,
    }


def test_every_line_of_both_logs_is_an_object_whatever_requests_carry(
    json_server: Server, key: str
) -> None:
    hostile = [
        b"/\x80\xff\xfe",
        b'/"},{"status":500',
        b"/\\u0000\\n",
        b"/%0a%22%00",
        "/\u2028\u202e\u00e9".encode(),
        b"/" + b"%22" * 2600,
        b"/?" + b"\\" * 7000,
    ]
    ids = [b'a"b', b"\x80", b"x" * 200, b"a\tb", b'{"a":"', b"%0a"]
    sent = 0
    for number, target in enumerate(hostile):
        for value in ids[number % 2 :: 2]:
            with json_server.connect() as wire:
                wire.send(
                    b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                    b"X-Request-Id: " + value + b"\r\nTraceparent: " + value + b"\r\n"
                    b"User-Agent: " + value + b"\r\n\r\n"
                )
                sent += wire.read_to_end().startswith(b"HTTP/1.1 404")
    json_server.get(f"/?{key}")
    wait_for_object(json_server, query=key)
    requests = objects(json_server.stdout())
    assert sent > 0
    assert len([it for it in requests if it["status"] == 404]) >= sent
    for request in requests:
        assert re.fullmatch(r"[\w-]{1,128}", request["request_id"])
        assert request["traceparent"] in (None, TRACEPARENT)
    assert all("message" in it for it in objects(json_server.stderr()))


def test_a_traceback_is_inside_its_object(json_server: Server, key: str) -> None:
    json_server.client().get("/raise", headers={"x-request-id": key})

    def probe() -> dict[str, Any] | None:
        lines = objects(json_server.stderr())
        return next((it for it in lines if it.get("request_id") == key), None)

    found = eventually(probe, "the traceback", PATIENCE)
    assert found is not None
    assert found["message"] == "Exception in ASGI application"
    assert found["level"] == "error"
    assert found["logger"] == "rsgi.error"
    assert found["worker"] == 0
    assert found["traceback"].startswith("Traceback (most recent call last):\n")
    assert found["traceback"].endswith("ValueError: raised\nin two lines")


def test_the_supervisors_lines_are_objects_too(json_server: Server) -> None:
    found = objects(json_server.stderr())
    (started,) = [it for it in found if it["message"].startswith("Started parent process")]
    assert (started["pid"], started["worker"]) == (json_server.pid, None)


def test_http2_and_websockets_have_objects(shared: Shared, json_server: Server, key: str) -> None:
    with Http2(json_server) as client:
        assert client.ask(f"/?{key}").status == 200
    found = wait_for_object(json_server, query=key)
    assert (found["http_version"], found["status"], found["bytes"]) == ("2", 200, 5)
    server = shared(SOCKETS, *JSON)
    with open_client(server, f"/echo?{key}"):
        found = wait_for_object(server, query=key)
    assert (found["type"], found["status"], found["method"]) == ("websocket", 101, "GET")


# The request's id


def test_the_application_finds_the_id_in_its_scope(json_server: Server, key: str) -> None:
    with json_server.client() as client:
        given = client.get("/id", headers={"x-request-id": key}).json()
        made = client.get(f"/id?{key}").json()
        refused = client.get("/id", headers={"x-request-id": 'a"b'}).json()
    assert given == {"id": key}
    assert re.fullmatch(r"[0-9a-f]{32}", made["id"])
    assert wait_for_object(json_server, query=key)["request_id"] == made["id"]
    assert refused["id"] != 'a"b'


def test_without_a_log_that_wants_one_no_id_is_made(shared: Shared) -> None:
    assert shared(APP).get("/id").json() is None
    assert shared(APP, *JSON, "--no-access-log").get("/id").json() is None


# A format of one's own


def test_atoms_are_filled_in(serve: Serve) -> None:
    pattern = (
        '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(m)s %(U)s %(q)s %(H)s %(B)s '
        "%(T)s %(D)d %(M)s %(L)s %(p)s %({X-Mine}i)s %({etag}o)s %({MINE}e)s %(dt_ms).1f %%"
    )
    # The time of the place, as in gunicorn; the other logs have UTC.
    env = {"MINE": "variable", "TZ": "IST-5:30"}
    server = serve(APP, "--access-logformat", pattern, env=env)
    headers = {"User-Agent": 'an\t"agent"', "X-Mine": "a b"}
    with server.client() as client:
        client.get("/?q=1", headers=headers, auth=("user", "secret"))
    line = wait_for_line(server, "GET")
    number = r"\d+"
    pattern = (
        r"127\.0\.0\.1 - user \[\d\d/[A-Z][a-z]{2}/20\d\d:\d\d:\d\d:\d\d \+0530\] "
        r'"GET /\?q=1 HTTP/1\.1" 200 5 "-" "an\\x09\\x22agent\\x22" GET / q=1 HTTP/1\.1 5 '
        rf"0 {number} {number} 0\.\d{{6}} <{server.worker_pids()[0]}> "
        r"a b \\x22v1\\x22 variable \d+\.\d %"
    )
    assert re.fullmatch(pattern, line), line
    assert "secret" not in line


def test_a_format_with_all_names_of_gunicorns_default_starts(serve: Serve) -> None:
    default = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
    server = serve(APP, "--access-logformat", default)
    server.get("/")
    assert '"GET / HTTP/1.1" 200 5 "-" "python-httpx/' in wait_for_line(server, "GET")


# Which requests


@pytest.mark.parametrize(
    ("flags", "pattern"),
    [
        ((), r'"GET /slow\?s=60&KEY HTTP/1\.1" 499 Client Closed Request \d+\.\d{3}ms 0B'),
        (JSON, r'"query":"s=60&KEY",.*"status":499,'),
        (("--access-logformat", '%(q)s "%(st)s" %(s)s'), r's=60&KEY "Client Closed Request" 499'),
        (("--log-python",), r'"GET /slow\?s=60&KEY HTTP/1\.1" 499 Client Closed Request'),
    ],
    ids=["text", "json", "own", "python"],
)
def test_a_request_whose_client_left_has_the_status_of_nginx(
    serve: Serve, key: str, flags: tuple[str, ...], pattern: str
) -> None:
    server = serve(APP, *flags)
    with server.connect() as wire:
        wire.request(f"/slow?s=60&{key}")
        assert not wire.is_readable(0.2)
        wire.reset()
    wait_for_line(server, pattern.replace("KEY", key))
    assert server.stdout().count(key) == 1


def test_one_that_still_waited_for_a_place_has_it_too(serve: Serve, key: str) -> None:
    server = serve(APP, "--limit-concurrency", "1", "--limit-queue", "5")
    with server.connect() as first, server.connect() as second, Http2(server) as third:
        first.request("/slow?s=60")
        assert not first.is_readable(0.2)
        second.request(f"/?one{key}")
        stream = third.start(f"/?two{key}")
        assert not second.is_readable(0.2)
        second.close()
        third.reset(stream)
        for name in ("one", "two"):
            wait_for_line(server, rf'"GET /\?{name}{key} HTTP/[12.]+" 499 Client Closed Request')


def test_a_stream_that_its_client_resets_has_it_too(json_server: Server, key: str) -> None:
    with Http2(json_server) as client:
        stream = client.start(f"/slow?s=60&{key}")
        client.ask("/")
        client.reset(stream)
        found = wait_for_object(json_server, query=f"s=60&{key}")
    assert (found["status"], found["http_version"]) == (499, "2")


@pytest.mark.parametrize(
    ("flags", "is_there"),
    [
        (("--log-level", "warning"), False),
        (("--log-level", "warning", "--access-logfile", "-"), True),
        (("--log-level", "debug"), True),
        (("--log-level", "critical", "--access-logfile", "-", "--no-access-log"), False),
    ],
)
def test_lines_are_at_info_unless_they_have_a_file(
    serve: Serve, tmp_path: Path, key: str, flags: tuple[str, ...], is_there: bool
) -> None:
    path = tmp_path / "socket"
    server = serve(APP, *flags, "--uds", str(path), ready=False, bind=False)
    eventually(path.exists, "the socket", PATIENCE)
    server.addresses = [str(path)]
    server.get(f"/?{key}")
    assert server.stop() == 0
    assert (key in server.stdout()) == is_there


def test_excluded_paths_have_no_line(serve: Serve, key: str) -> None:
    server = serve(APP, "--access-log-exclude", "/health*", "--access-log-exclude", "*.ico")
    for path in ["/health", "/healthz/deep", "/favicon.ico", f"/?{key}"]:
        server.get(path)
    wait_for_line(server, key)
    assert server.stdout().count("GET") == 1


def test_a_slow_request_is_one_warning_that_says_where_its_time_went(serve: Serve) -> None:
    server = serve(APP, "--slow-request-warning", "200ms", "--no-access-log")
    with server.connect() as wire:
        wire.get("/slow?s=0")
        wire.get("/slow?s=0.3")
        assert wire.get("/events").status == 200
        name = wire.name
    pattern = (
        rf'WARNING:  Slow request: {name} - "GET /slow HTTP/1\.1" 200 took 0\.[3-9]\d* s '
        r"\(0\.[3-9]\d* s until its response began, 0\.\d+ s until that had left\)"
    )
    server.wait_for_log(pattern)
    server.get("/")
    assert server.stderr().count("Slow request") == 1
    assert server.stdout() == ""


def test_a_slow_upload_is_told_from_a_slow_application(serve: Serve) -> None:
    server = serve(APP, "--slow-request-warning", "200ms", "--log-format", "json")
    with server.connect() as wire:
        wire.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
        eventually(lambda: not wire.is_readable(0.3))
        wire.send(b"b")
        wire.read_response()
    text = server.wait_for_log(r'\{.*"message":"Slow request.*')
    found = json.loads(text)
    assert (found["method"], found["path"]) == ("POST", "/upload")
    assert (found["status"], found["bytes"]) == (200, 2)
    assert re.search(r"\(0\.[2-9]\d* s for its content to come, 0\.0", found["message"])
    assert found["duration"] >= 0.25


def test_messages_between_server_and_application_are_traced(serve: Serve) -> None:
    server = serve(APP, "--log-level", "trace")
    with server.connect() as wire:
        wire.get("/")
        name = re.escape(wire.name)
    for text in [
        rf"TRACE:    {name} - ASGI \[\d+\] Started scope=\{{'type': 'http'",
        rf"TRACE:    {name} - ASGI \[\d+\] Send \{{'type': 'http\.response\.body', "
        "'body': '<5 bytes>'",
        rf"TRACE:    {name} - ASGI \[\d+\] Completed",
    ]:
        server.wait_for_log(text)
