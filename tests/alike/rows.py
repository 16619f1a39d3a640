"""The table: for each keyword of `uvicorn.run`, what it does under both servers.

A row has keywords, a probe, and what the probe has to show under uvicorn *and* under rsgi; where
rsgi differs on purpose, it has what that one shows, and why. `UNSEEN` has the keywords with which
nothing can be seen from outside, or nothing that could be the same.
"""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM
from typing import Any

from tests.alike import probes
from tests.alike.probes import FORWARDED, Probe, about, ending, fields, websocket
from tests.support.certificates import Authority, replace
from tests.support.server import ROOT

STRING = "'tests.apps.alike:app'"
OBJECT = "alike.app"

DEFLATE = ("Sec-WebSocket-Extensions", "permessage-deflate")
CIPHER = "ECDHE-ECDSA-AES256-GCM-SHA384"


@dataclass
class Row:
    """Keywords, and what they do."""

    name: str
    keywords: Callable[[Path], dict[str, Any]]
    probe: Probe
    expected: Any
    app: str = STRING
    env: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], None] = lambda _directory: None
    #: What rsgi shows where it differs on purpose, and why it does.
    differs: tuple[Any, str] | None = None

    def names(self) -> set[str]:
        """Which keywords it is about."""
        return set(self.keywords(Path("/directory")))


def free_port(host: str) -> int:
    """Return a port that nobody has on an address that only these tests use."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


#: Held for as long as the tests run.
_taken: list[socket.socket] = []


def taken_port() -> int:
    """Return a port that somebody listens on."""
    if not _taken:
        _taken.append(socket.create_server(("127.0.0.1", 0)))
    port: int = _taken[0].getsockname()[1]
    return port


def _certificates(directory: Path) -> None:
    authority = Authority()
    replace(directory / "ca.crt", authority.pem)
    server = authority.issue("localhost")
    server.write(directory, "server")
    authority.issue("client").write(directory, "client")
    replace(directory / "locked.key", server.key_pem(password="secret"))


def _tls(directory: Path) -> dict[str, Any]:
    return {
        "ssl_certfile": directory / "server.crt",
        "ssl_keyfile": str(directory / "server.key"),
    }


def _tls12(context: ssl.SSLContext, _directory: Path) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def _copied(directory: Path) -> None:
    shutil.copy(ROOT / "tests/apps/alike.py", directory / "app_here.py")


def _watched(directory: Path) -> None:
    (directory / "watched").mkdir()
    shutil.copy(ROOT / "tests/apps/alike.py", directory / "watched" / "app_here.py")


def _to_file(name: str, level: str = "INFO") -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "plain": {"format": "%(name)s %(levelname)s %(message)s"},
            "access": {
                "()": "uvicorn.logging.AccessFormatter",
                "fmt": '%(client_addr)s "%(request_line)s" %(status_code)s',
                "use_colors": False,
            },
        },
        "handlers": {
            "file": {"class": "logging.FileHandler", "filename": name, "formatter": "plain"},
            "access": {"class": "logging.FileHandler", "filename": name, "formatter": "access"},
        },
        "loggers": {
            "uvicorn.error": {"handlers": ["file"], "level": level, "propagate": False},
            "uvicorn.access": {"handlers": ["access"], "level": level, "propagate": False},
        },
    }


_INI = """\
[loggers]
keys=root,uvicorn.access
[handlers]
keys=file
[formatters]
keys=plain
[logger_root]
level=WARNING
handlers=
[logger_uvicorn.access]
level=INFO
handlers=file
qualname=uvicorn.access
propagate=0
[handler_file]
class=FileHandler
formatter=plain
args=('ini.log',)
[formatter_plain]
format=%(name)s %(levelname)s %(message)s
"""


def _ini(directory: Path) -> None:
    (directory / "logging.ini").write_text(_INI)


def _variables(directory: Path) -> None:
    (directory / "variables").write_text("ALIKE='from a file'\n")


def _concurrency(directory: Path) -> None:
    (directory / "variables").write_text("WEB_CONCURRENCY=2\n")


def _trust(directory: Path) -> None:
    (directory / "variables").write_text("FORWARDED_ALLOW_IPS=10.0.0.1\n")


def _no_keywords(_directory: Path) -> dict[str, Any]:
    return {}


def _given(**keywords: Any) -> Callable[[Path], dict[str, Any]]:
    return lambda _directory: keywords


_LOGGED = ['CLIENT "GET /logged?a=b HTTP/1.1" 200 OK']

ROWS = [
    # The application
    Row("a string", _no_keywords, about("type", "asgi"), {"type": "http", "asgi": "3.0"}),
    Row(
        "an object", _no_keywords, about("context"), {"context": "set before the start"}, app=OBJECT
    ),
    Row(
        "no module",
        _no_keywords,
        ending("could not import", "no_such_module"),
        {"status": 3, "could not import": True, "no_such_module": True, "Traceback": False},
        app="'no_such_module:app'",
        differs=(
            {"status": 3, "could not import": False, "no_such_module": True, "Traceback": False},
            "another wording",
        ),
    ),
    Row(
        "factory",
        _given(factory=True),
        about("type"),
        {"type": "http"},
        app="'tests.apps.alike:factory'",
    ),
    Row(
        "factory, an object",
        _given(factory=True),
        about("type"),
        {"type": "http"},
        app="alike.factory",
    ),
    Row(
        "app_dir",
        lambda directory: {"app_dir": str(directory)},
        about("type"),
        {"type": "http"},
        app="'app_here:app'",
        prepare=_copied,
    ),
    Row(
        "interface asgi2",
        _given(interface="asgi2"),
        about("asgi"),
        {"asgi": "2.0"},
        app="alike.asgi2",
    ),
    Row(
        "interface asgi3",
        _given(interface="asgi3"),
        about("asgi"),
        {"asgi": "3.0"},
        app="alike.callable3",
    ),
    Row(
        "interface wsgi",
        _given(interface="wsgi"),
        lambda it: it.get("/a%20b").body,
        b"GET /a b",
        app="alike.wsgi",
    ),
    Row("lifespan off", _given(lifespan="off"), probes.lifespan, {"state": None, "said": []}),
    Row(
        "lifespan on",
        _given(lifespan="on"),
        probes.lifespan,
        {"state": 1, "said": ["startup", "shutdown"]},
    ),
    Row(
        "lifespan on, failing",
        _given(lifespan="on"),
        ending("RuntimeError: no start", "Application startup failed. Exiting."),
        {
            "status": 3,
            "RuntimeError: no start": True,
            "Application startup failed. Exiting.": True,
            "Traceback": True,
        },
        env={"ALIKE": "no start"},
    ),
    Row(
        "root_path",
        _given(root_path="/api"),
        about("path", "root_path", target="/x"),
        {"path": "/api/x", "root_path": "/api"},
    ),
    Row(
        "reset_contextvars", _given(reset_contextvars=True), about("context"), {"context": "unset"}
    ),
    Row(
        "env_file",
        lambda directory: {"env_file": directory / "variables"},
        about("variable"),
        {"variable": "from a file"},
        prepare=_variables,
    ),
    # Where to listen
    Row(
        "host and port",
        lambda _directory: {"host": "127.0.0.2", "port": free_port("127.0.0.2")},
        probes.where,
        {"server": "127.0.0.2", "only there": True, "as asked": True},
    ),
    Row(
        "a port in use",
        lambda _directory: {"port": taken_port()},
        ending("address already in use", "RETURNED"),
        {"status": 3, "address already in use": True, "RETURNED": False, "Traceback": False},
    ),
    Row(
        "uds",
        lambda directory: {"uds": str(directory / "socket")},
        probes.unix_socket,
        {"mode": "0o666", "client": None, "scheme": "http", "removed": True},
    ),
    Row(
        "fd",
        _given(fd=-1),
        about("client", "server"),
        {"client": "127.0.0.1", "server": "127.0.0.1"},
    ),
    Row(
        "backlog",
        lambda directory: {"uds": str(directory / "socket"), "backlog": 3},
        probes.backlog,
        4,
    ),
    # Processes
    Row(
        "workers",
        _given(workers=2),
        probes.several_processes,
        {"processes": 2, "other": True, "status": 0},
    ),
    Row(
        "WEB_CONCURRENCY",
        _no_keywords,
        probes.several_processes,
        {"processes": 2, "other": True, "status": 0},
        env={"WEB_CONCURRENCY": "2"},
    ),
    Row(
        "WEB_CONCURRENCY in a file",
        lambda directory: {"env_file": str(directory / "variables")},
        probes.several_processes,
        {"processes": 2, "other": True, "status": 0},
        prepare=_concurrency,
    ),
    Row(
        "limit_max_requests",
        _given(limit_max_requests=3, limit_max_requests_jitter=0),
        probes.served_before_the_end,
        {"served": 3, "status": 0, "returned": True},
    ),
    Row(
        "timeout_graceful_shutdown",
        _given(timeout_graceful_shutdown=1),
        probes.hurried_stop,
        {"in time": True, "said": True, "lifespan": True},
    ),
    Row(
        "reload",
        lambda directory: {
            "reload": True,
            "reload_dirs": [str(directory / "watched")],
            "reload_includes": ["*.txt"],
            "reload_excludes": ["skipped.py", "app_here.py"],
            "app_dir": str(directory / "watched"),
        },
        probes.reloads,
        {"after others": 2},
        app="'app_here:app'",
        prepare=_watched,
    ),
    Row(
        "SIGTERM",
        _no_keywords,
        lambda it: (it.about()["type"], it.stop(SIGTERM)),
        ("http", -SIGTERM),
        differs=(("http", 0), "a stop that was asked for and went well is no failure"),
    ),
    # HTTP
    Row("loop", _given(loop="asyncio"), about("type"), {"type": "http"}),
    Row(
        "http2",
        _given(http2=True),
        lambda it: it.about()["type"] if it.server == "rsgi" else it.wait(),
        1,
        differs=("http", "uvicorn needs another package for it, rsgi always speaks HTTP/2"),
    ),
    Row("http h11", _given(http="h11"), about("type"), {"type": "http"}),
    Row("server_header", _given(server_header=False), fields("server"), {"server": []}),
    Row("date_header", _given(date_header=False), fields("date"), {"date": []}),
    Row(
        "headers",
        _given(headers=[("X-One", "1"), ("X-One", "2"), ("Server", "mine")]),
        fields("x-one", "server"),
        {"x-one": [b"1", b"2"], "server": [b"mine"]},
    ),
    Row(
        "limit_concurrency",
        _given(limit_concurrency=2),
        probes.concurrency,
        {"status": 503, "body": b"Service Unavailable"},
    ),
    Row("timeout_keep_alive", _given(timeout_keep_alive=1), probes.idle_time, "in time"),
    Row(
        "h11_max_incomplete_event_size",
        _given(h11_max_incomplete_event_size=2000, http="h11"),
        probes.long_head,
        {"below": 200, "above is refused": True},
    ),
    # Proxies
    Row(
        "proxy_headers",
        _given(proxy_headers=True),
        about("client", "scheme", headers=FORWARDED),
        {"client": "192.0.2.7", "scheme": "https"},
    ),
    Row(
        "no proxy_headers",
        _given(proxy_headers=False),
        about("client", "scheme", headers=FORWARDED),
        {"client": "127.0.0.1", "scheme": "http"},
    ),
    Row(
        "forwarded_allow_ips, of others",
        _given(forwarded_allow_ips=["10.0.0.0/8"]),
        about("client", "scheme", headers=FORWARDED),
        {"client": "127.0.0.1", "scheme": "http"},
    ),
    Row(
        "forwarded_allow_ips, of all",
        _given(forwarded_allow_ips="*"),
        about("client", headers=(("X-Forwarded-For", "192.0.2.7, 10.0.0.1"),)),
        {"client": "192.0.2.7"},
    ),
    Row(
        "FORWARDED_ALLOW_IPS",
        _no_keywords,
        about("client", headers=FORWARDED),
        {"client": "127.0.0.1"},
        env={"FORWARDED_ALLOW_IPS": "10.0.0.1"},
    ),
    Row(
        "FORWARDED_ALLOW_IPS in a file",
        lambda directory: {"env_file": str(directory / "variables")},
        about("client", headers=FORWARDED),
        {"client": "127.0.0.1"},
        prepare=_trust,
    ),
    # WebSockets
    Row("ws none", _given(ws="none"), websocket(), {"status": 200, "deflate": False}),
    Row("ws wsproto", _given(ws="wsproto"), websocket(DEFLATE), {"status": 101, "deflate": True}),
    Row(
        "ws_per_message_deflate",
        _given(ws_per_message_deflate=False),
        websocket(DEFLATE),
        {"status": 101, "deflate": False},
    ),
    Row(
        "ws_max_size",
        _given(ws_max_size=1000),
        probes.message_limit,
        {"at": b"1000", "above": 1009},
    ),
    Row(
        "ws_ping",
        _given(ws_ping_interval=0.2, ws_ping_timeout=0.5),
        probes.pings,
        {"first": True, "last": True, "code": 1011},
    ),
    Row("no ws_ping", _given(ws_ping_interval=None, ws_ping_timeout=None), probes.no_pings, True),
    # Logs
    Row(
        "access_log",
        _given(access_log=False, use_colors=False),
        probes.log,
        {"access": False, "startup": True, "colours": []},
    ),
    Row(
        "use_colors",
        _given(use_colors=True),
        probes.log,
        {"access": True, "startup": True, "colours": ["err", "out"]},
    ),
    Row(
        "no use_colors",
        _given(use_colors=False),
        probes.log,
        {"access": True, "startup": True, "colours": []},
    ),
    Row(
        "log_level",
        _given(log_level="warning"),
        probes.log,
        {"access": False, "startup": False, "colours": []},
    ),
    Row(
        "log_level, a number",
        _given(log_level=logging.ERROR),
        probes.log,
        {"access": False, "startup": False, "colours": []},
    ),
    Row(
        "log_level error",
        _given(log_level="error"),
        probes.failure,
        {"status": 500, "logged": True},
    ),
    Row(
        "log_level critical",
        _given(log_level="critical"),
        probes.failure,
        {"status": 500, "logged": False},
    ),
    Row(
        "log_config, a dict",
        _given(log_config=_to_file("dict.log")),
        probes.lines_of("dict.log"),
        _LOGGED,
    ),
    Row(
        "log_config with workers",
        _given(log_config=_to_file("parent.log"), workers=2),
        probes.parent_in("parent.log"),
        [
            f"uvicorn.error INFO {line} process"
            for line in ("Started parent", "Started server", "Stopped parent")
        ],
    ),
    Row(
        "log_config, a file",
        lambda directory: {"log_config": str(directory / "logging.ini")},
        probes.lines_of("ini.log"),
        ['uvicorn.access INFO CLIENT - "GET /logged?a=b HTTP/1.1" 200'],
        prepare=_ini,
    ),
    Row(
        "log_config, none",
        _given(log_config=None),
        probes.log,
        {"access": False, "startup": False, "colours": []},
        differs=(
            {"access": True, "startup": True, "colours": []},
            "where nobody has configured `logging`, a server that says nothing at all helps nobody",
        ),
    ),
    # TLS
    Row(
        "ssl_certfile and ssl_keyfile",
        _tls,
        probes.encrypted("status", "scheme"),
        {"status": 200, "scheme": True},
        prepare=_certificates,
    ),
    Row(
        "ssl_keyfile_password",
        lambda directory: {
            "ssl_certfile": str(directory / "server.crt"),
            "ssl_keyfile": str(directory / "locked.key"),
            "ssl_keyfile_password": "secret",
        },
        probes.encrypted("status"),
        {"status": 200},
        prepare=_certificates,
    ),
    Row(
        "ssl_ciphers",
        lambda directory: {**_tls(directory), "ssl_ciphers": CIPHER},
        probes.encrypted("cipher", make=_tls12),
        {"cipher": CIPHER},
        prepare=_certificates,
    ),
    Row(
        "ssl_version",
        lambda directory: {**_tls(directory), "ssl_version": int(ssl.PROTOCOL_TLS_SERVER)},
        probes.encrypted("version"),
        {"version": "TLSv1.3"},
        prepare=_certificates,
    ),
    Row(
        "ssl_cert_reqs and ssl_ca_certs",
        lambda directory: {
            **_tls(directory),
            "ssl_cert_reqs": 2,
            "ssl_ca_certs": str(directory / "ca.crt"),
        },
        probes.refuses_strangers,
        {"with": 200, "without": "refused"},
        prepare=_certificates,
    ),
]

#: Keywords with which nothing can be seen, or nothing that is the same, and why.
UNSEEN = {
    "ws_max_queue": "only uvicorn's deprecated implementation reads it; tests/websocket has ours",
    "reload_delay": "where the kernel reports changes, neither reads it; tests/reload has polling",
    "timeout_worker_healthcheck": "uvicorn asks a thread, rsgi the loop: test_blocked.py",
    "ssl_context_factory": "refused: certificates are files here, see test_keywords.py",
}
