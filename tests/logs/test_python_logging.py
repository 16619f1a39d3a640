"""`--log-config` and `--log-python`: everything through Python's `logging`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.server import ROOT, Server
from tests.support.websocket import open_client

APP = "tests.apps.logged:app"
SOCKETS = "tests.apps.sockets.scenarios:app"
PATIENCE = 30.0

pytestmark = rsgi_only("has loggers with other names")

FORMAT = "%(name)s|%(levelname)s|%(message)s"
CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": FORMAT}},
    "filters": {"health": {"()": "tests.apps.logged.WithoutHealth"}},
    "handlers": {
        "out": {
            "class": "logging.StreamHandler",
            "formatter": "plain",
            "filters": ["health"],
            "stream": "ext://sys.stdout",
        }
    },
    "loggers": {"rsgi": {"handlers": ["out"], "level": "INFO"}},
}
INI = f"""
[loggers]
keys = root, rsgi

[handlers]
keys = out

[formatters]
keys = plain

[logger_root]
handlers =

[logger_rsgi]
qualname = rsgi
handlers = out
level = INFO

[handler_out]
class = StreamHandler
formatter = plain
args = (sys.stdout,)

[formatter_plain]
format = {FORMAT}
"""
TOML = f"""
version = 1
disable_existing_loggers = false
formatters.plain.format = "{FORMAT}"
loggers.rsgi = {{ handlers = ["out"], level = "INFO" }}

[handlers.out]
class = "logging.StreamHandler"
formatter = "plain"
stream = "ext://sys.stdout"
"""


def started(serve: Serve, *flags: str, app: str = APP, **options: Any) -> Server:
    """Start a server whose lines are not what they usually are."""
    server = serve(app, *flags, ready=False, **options)
    server.wait_until_announced(PATIENCE)
    return server


@pytest.mark.parametrize(
    ("form", "flags"),
    [("ini", []), ("json", ["--preload"]), ("yaml", []), ("toml", []), ("text", [])],
)
def test_every_form_of_a_configuration_works(
    serve: Serve, tmp_path: Path, form: str, flags: list[str]
) -> None:
    path = tmp_path / f"log.{form}"
    texts = {"ini": INI, "json": json.dumps(CONFIG), "yaml": yaml.safe_dump(CONFIG), "toml": TOML}
    path.write_text(texts.get(form, ""))
    given = json.dumps(CONFIG) if form == "text" else str(path)
    server = started(serve, "--log-config", given, *flags)
    with server.connect() as wire:
        wire.get("/health")
        wire.get("/?q")
        name = wire.name
    server.wait_for_access_line(re.escape(f'rsgi.access|INFO|{name} - "GET /?q HTTP/1.1" 200'))
    server.wait_for_access_line(r"rsgi\.error\|INFO\|Application startup complete\.")
    # The filter is the application's own.
    assert ("/health" in server.stdout()) == (form in ("ini", "toml"))
    assert server.stop() == 0
    assert "rsgi.error|INFO|Finished server process" in server.stdout()
    assert "Application startup complete" not in server.stderr()


def test_lines_of_the_supervisor_are_records_too(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "log.toml"
    path.write_text(TOML)
    server = started(serve, "--log-config", str(path), workers=2)
    server.wait_for_access_line(r"rsgi\.error\|INFO\|Started parent process")
    server.wait_for_access_line(r"rsgi\.error\|INFO\|Application startup complete")
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.wait_for_access_line(r"rsgi\.error\|ERROR\|Worker \d \[\d+\] was killed by SIGKILL")
    path.write_text(TOML.replace(FORMAT, f"new|{FORMAT}"))
    server.signal(signal.SIGHUP)
    server.wait_for_access_line(r"rsgi\.error\|INFO\|Reload complete")
    assert server.stop() == 0
    assert "new|rsgi.error|INFO|Stopped parent process" in server.stdout().splitlines()[-1]
    assert server.stderr() == ""


def test_a_start_that_fails_is_a_record_too(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "log.toml"
    path.write_text(TOML)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        server = serve(APP, "--log-config", str(path), "--port", port, ready=False)
        assert server.wait(PATIENCE) == 3
    assert "rsgi.error|ERROR|address already in use" in server.stdout()


def test_code_of_the_application_does_not_run_in_the_supervisor(serve: Serve) -> None:
    server = started(serve, "--log-config", json.dumps(CONFIG))
    assert "do not go through --log-config, which needs `tests`" in server.stderr()
    assert "Started parent process" in server.stderr()
    assert "parent process" not in server.stdout()


def test_a_request_has_uvicorns_arguments_and_more_as_attributes(
    serve: Serve, tmp_path: Path
) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["formatters"]["plain"]["format"] = (
        "%(name)s|%(args)s|%(duration).6f|%(bytes)d|%(request_id)s|%(traceparent)s"
    )
    config["loggers"] = {"rsgi.access": {"handlers": ["out"], "level": "INFO"}}
    server = started(serve, "--log-config", json.dumps(config))
    with server.client() as client:
        client.get("/?q=%0a", headers={"x-request-id": "abc"})
    line = server.wait_for_access_line("abc")
    assert re.fullmatch(
        r"rsgi\.access\|\('127\.0\.0\.1:\d+', 'GET', '/\?q=%0a', '1\.1', 200\)"
        r"\|0\.\d{6}\|5\|abc\|None",
        line,
    )


def test_a_websocket_is_in_uvicorns_wording(serve: Serve) -> None:
    server = started(serve, "--log-config", json.dumps(CONFIG), app=SOCKETS)
    with open_client(server, "/echo?a") as client:
        name = ":".join(map(str, client.local_address[:2]))
        server.wait_for_access_line(re.escape(f'|{name} - "WebSocket /echo?a" [accepted]'))


def test_an_exception_comes_with_its_traceback(serve: Serve) -> None:
    server = started(serve, "--log-config", json.dumps(CONFIG), allow_tracebacks=True)
    server.get("/raise")
    server.wait_for_access_line(r"rsgi\.error\|ERROR\|Exception in ASGI application")
    server.wait_for_access_line("in two lines")
    assert "ValueError: raised" in server.stdout()


def test_a_configuration_for_uvicorns_loggers_is_used_with_one_line_that_says_so(
    serve: Serve,
) -> None:
    text = json.dumps(CONFIG).replace('"rsgi"', '"uvicorn"')
    server = started(serve, "--log-config", text)
    server.get("/")
    server.wait_for_access_line(r"uvicorn\.access\|INFO\|.*GET / HTTP")
    notice = "uvicorn.error|INFO|logging is configured for uvicorn.error and uvicorn.access"
    server.wait_for_access_line(re.escape(notice))
    assert server.stdout().count("logging is configured") == 1


def test_our_formatters_write_what_the_server_would(serve: Serve) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["formatters"] = {
        "plain": {
            "()": "rsgi.logging.AccessFormatter",
            "fmt": '%(levelprefix)s%(client_addr)s - "%(request_line)s" %(status_code)s',
        }
    }
    config["loggers"] = {"rsgi.access": {"handlers": ["out"], "level": "INFO"}}
    server = started(serve, "--log-config", json.dumps(config))
    with server.connect() as wire:
        wire.get("/missing")
        name = re.escape(wire.name)
    server.wait_for_access_line(rf'^INFO:     {name} - "GET /missing HTTP/1\.1" 404 Not Found$')


def test_an_application_that_configures_logging_gets_the_records(serve: Serve) -> None:
    server = serve("tests.apps.logged:configured", "--factory", "--log-python", ready=False)
    server.wait_until_announced(PATIENCE)
    server.get("/")
    server.wait_for_log(r'rsgi\.access\|INFO\|127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200')


def test_where_nobody_configures_anything_lines_are_what_they_were(serve: Serve) -> None:
    server = serve(APP, "--log-python")
    server.get("/")
    line = server.wait_for_access_line("GET")
    assert re.fullmatch(r'INFO:     127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200 OK', line)
    assert "\nINFO:     Application startup complete.\n" in server.stderr()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.json", "{", "--log-config: json.decoder.JSONDecodeError"),
        ("log.json", "[]", "--log-config: expected a mapping"),
        ("log.json", '{"version": 1, "handlers": {"a": {"class": "no.Such"}}}', "no.Such|'a'"),
        ("log.ini", "[nothing]", "--log-config: .*log.ini"),
    ],
)
def test_a_configuration_that_is_wrong_ends_the_start(
    serve: Serve, tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    server = serve(APP, "--log-config", str(path), ready=False)
    assert server.wait(PATIENCE) == 3
    assert re.search(message, server.stderr()), server.stderr()
    assert "Traceback" not in server.stderr()


def test_a_configuration_that_is_missing_is_said_before_anything_starts(serve: Serve) -> None:
    server = serve(APP, "--log-config", "/no/such/log.ini", ready=False)
    assert server.wait(PATIENCE) == 3
    assert "--log-config: cannot read the file" in server.stderr()
    assert "Started" not in server.stderr()


def test_without_pyyaml_a_message_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "log.yaml"
    path.write_text("version: 1\n")
    program = f"""
        import sys
        sys.modules["yaml"] = None
        import rsgi
        rsgi.run(lambda: None, port=0, log_config={str(path)!r})
    """
    done = run(program)
    assert "ValueError: --log-config: reading YAML needs PyYAML (`pip install pyyaml`)" in done


def test_a_program_gives_a_dict_with_anything_in_it() -> None:
    program = f"""
        import logging, os, signal, sys, threading
        import httpx, rsgi
        from tests.apps.logged import app

        records = []

        class Kept(logging.Handler):
            def emit(self, record):
                records.append(record)

        config = {{
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {{"kept": {{"()": Kept}}}},
            "loggers": {{"rsgi": {{"handlers": ["kept"], "level": "DEBUG"}}}},
        }}
        with rsgi.Server(rsgi.Config(app, port=0, log_config=config)).run_in_thread() as server:
            url = f"http://127.0.0.1:{{server.port}}"
            for path in ["/", "/raise"]:
                httpx.get(url + path, trust_env=False, timeout={PATIENCE})
        access = [record for record in records if record.name == "rsgi.access"]
        print([record.args[1:] for record in access])
        print(access[0].getMessage().partition(" - ")[2], access[0].bytes, access[0].duration < 60)
        (error,) = [record for record in records if record.levelname == "ERROR"]
        print(error.exc_info[1].args, error.request_id == access[1].request_id)
        print(records[-1].getMessage().rstrip("[]0123456789"))
    """
    lines = run(program).splitlines()
    assert lines == [
        "[('GET', '/', '1.1', 200), ('GET', '/raise', '1.1', 500)]",
        '"GET / HTTP/1.1" 200 5 True',
        "('raised\\nin two lines',) True",
        "Finished server process ",
    ]


def test_none_leaves_logging_to_the_program() -> None:
    program = f"""
        import logging, sys
        import httpx, rsgi
        from tests.apps.logged import app

        logging.basicConfig(level="INFO", format="{FORMAT}", stream=sys.stdout)
        with rsgi.Server(rsgi.Config(app, port=0, log_config=None)).run_in_thread() as server:
            httpx.get(f"http://127.0.0.1:{{server.port}}/", trust_env=False, timeout={PATIENCE})
    """
    assert "rsgi.access|INFO|127.0.0.1" in run(program)


def test_objects_cannot_be_given_to_other_processes() -> None:
    program = """
        import rsgi
        config = {"version": 1, "formatters": {"a": {"()": object()}}}
        rsgi.run("tests.apps.logged:app", workers=2, port=0, log_config=config)
    """
    assert "TypeError: several workers need a log_config of plain values" in run(program)


def run(program: str) -> str:
    """Run a program and return all it writes."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        timeout=2 * PATIENCE,
        check=False,
    ).stdout
