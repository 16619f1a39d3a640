"""Every option and keyword of the uvicorn that is installed is known here."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click
import pytest
import rsgi
import uvicorn
import uvicorn.protocols.http.h11_impl
import uvloop
from rsgi._native import main
from uvicorn.main import main as uvicorn_command

from tests.support.flavour import rsgi_only

pytestmark = rsgi_only("knows itself")

#: Values that are not obvious from the option's type.
VALUES = {
    "--env-file": "FILE",
    "--fd": "3",
    "--forwarded-allow-ips": "127.0.0.1",
    "--header": "x-a:1",
    "--host": "127.0.0.1",
    "--h11-max-incomplete-event-size": "65536",
    "--log-config": "FILE",
    "--loop": "auto",
    "--ws": "auto",
    "--ws-max-size": "65536",
    "--root-path": "/api",
    "--ssl-ca-certs": "FILE",
    "--ssl-certfile": "FILE",
    "--ssl-cert-reqs": "0",
    "--ssl-keyfile": "FILE",
    "--ssl-version": "17",
}
#: Options that are nothing without another one.
BESIDE = {
    "--ssl-ca-certs": ["--ssl-certfile", "FILE"],
    "--ssl-cert-reqs": ["--ssl-certfile", "FILE"],
    "--ssl-ciphers": ["--ssl-certfile", "FILE"],
    "--ssl-keyfile": ["--ssl-certfile", "FILE"],
    "--ssl-keyfile-password": ["--ssl-certfile", "FILE", "--ssl-keyfile", "FILE"],
    "--ssl-version": ["--ssl-certfile", "FILE"],
}


def options() -> Iterator[Any]:
    """Every spelling of every option, with a value that suits it."""
    for option in uvicorn_command.params:
        if not isinstance(option, click.Option) or {"--version", "--help"} & set(option.opts):
            continue
        for flag in (*option.opts, *option.secondary_opts):
            if option.is_flag:
                yield pytest.param([flag], id=flag)
                continue
            value = VALUES.get(flag)
            if value is None and isinstance(option.type, click.Choice):
                value = str(option.type.choices[0])
            if value is None:
                value = "true" if option.type is click.BOOL else "1"
            yield pytest.param([flag, value], id=flag)


@pytest.mark.parametrize("line", list(options()))
def test_an_option_of_uvicorn_is_known(
    line: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    words = [*BESIDE.get(line[0], []), *line, "--check-config", "main:app"]
    status = main([str(file) if word == "FILE" else word for word in words], [], [])
    output = capfd.readouterr()
    problems = [
        text
        for text in ("unknown", "unexpected argument", "missing", "expected")
        if text in output.err
    ]
    assert not problems, output.err
    assert status in (0, 2), output.err


def test_every_keyword_of_uvicorn_is_known_with_its_default() -> None:
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(uvicorn.run).parameters.items()
        if name != "app"
    }
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        config = rsgi.Config("main:app", **keywords)
    assert set(config.settings) == set(keywords)


@pytest.mark.parametrize(
    "keywords",
    [
        {"ssl_certfile": Path("/cert"), "ssl_keyfile": Path("/key"), "ssl_cert_reqs": 2,
         "ssl_ca_certs": Path("/ca")},
        {"headers": [("x-a", "1"), ("x-b", "2")]},
        {"loop": "uvloop", "http": "httptools", "ws": "wsproto", "lifespan": "on"},
        {"log_config": None, "log_level": "debug", "access_log": False, "use_colors": False},
        {"log_config": {"version": 1}, "log_level": 10},
        {"forwarded_allow_ips": ["127.0.0.1", "10.0.0.0/8"], "proxy_headers": True},
        {"reload_dirs": ["src"], "reload_includes": "*.html", "reload_excludes": ["*.tmp"]},
        {"timeout_graceful_shutdown": None, "limit_concurrency": 10, "backlog": 128},
        {"ws_ping_interval": None, "ws_ping_timeout": None, "ws_max_size": 1000},
        {"env_file": None, "app_dir": None, "factory": True, "reset_contextvars": True},
        {"uds": "/run/app.sock"},
        {"loop": uvloop.new_event_loop, "http": uvicorn.protocols.http.h11_impl.H11Protocol},
        {"interface": "asgi2", "workers": 1, "root_path": "/api"},
    ],
)  # fmt: skip
def test_what_people_give_to_uvicorn_is_taken(keywords: dict[str, Any]) -> None:
    assert rsgi.Config("main:app", **keywords).settings == keywords
