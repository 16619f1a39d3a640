"""The servers: their command lines and versions. Must not know what is measured."""

from __future__ import annotations

import atexit
import contextlib
import functools
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

BENCHES = Path(__file__).resolve().parent.parent
KEEP_ALIVE_SECONDS = 600  # nobody may close what the load generator holds
BACKLOG = 4096
MOST_CONNECTIONS = 20_000  # two servers stop accepting at 1,000 and at the backlog if not told
START_SECONDS = 30
HTTP2_PEERS = ("granian", "hypercorn")  # those that speak it without TLS
STOP_SECONDS = 10
# What a user's shell may have set, and every server would obey.
FOREIGN_SETTINGS = re.compile(r"(RSGI|UVICORN|GRANIAN|GUNICORN)_|WEB_CONCURRENCY$|PORT$|PYTHON")


@dataclass(frozen=True)
class Cores:
    """Which CPU runs the servers, and which the load."""

    server: int
    load: int


@dataclass(frozen=True)
class Launch:
    """How a server is started."""

    app: str
    port: int
    workers: int = 1
    access_log: bool = False
    http2: bool = False  # by prior knowledge
    certificate: tuple[str, str] | None = None  # files of a certificate and its key


@dataclass(frozen=True)
class Server:
    """A server that takes part."""

    name: str
    title: str
    version: str
    command: Callable[[Launch], list[str]]
    runs_python: bool = True
    speaks_http2: bool = False


def _tls(launch: Launch, certificate: str, key: str) -> list[str]:
    if launch.certificate is None:
        return []
    return [certificate, launch.certificate[0], key, launch.certificate[1]]


def _peer(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _uvicorn(launch: Launch) -> list[str]:
    return [
        *(_peer("uvicorn"), "--loop", "uvloop", "--http", "httptools"),
        *("--ws", "websockets-sansio"),
        *_tls(launch, "--ssl-certfile", "--ssl-keyfile"),
        *("--port", str(launch.port), "--workers", str(launch.workers)),
        *("--timeout-keep-alive", str(KEEP_ALIVE_SECONDS), "--backlog", str(BACKLOG)),
        "--access-log" if launch.access_log else "--no-access-log",
        launch.app,
    ]


def _granian(launch: Launch) -> list[str]:
    # Back-pressure counts open connections, idle ones too: a worker takes no more than that. The
    # header timeout ends idle ones; 60 s is the most it takes.
    return [
        *(_peer("granian"), "--interface", "asgi", "--loop", "auto"),
        *("--http", "2" if launch.http2 else "1"),
        *("--port", str(launch.port), "--workers", str(launch.workers)),
        *("--http1-header-read-timeout", "60000", "--backlog", str(BACKLOG)),
        *("--backpressure", str(MOST_CONNECTIONS)),
        *_tls(launch, "--ssl-certificate", "--ssl-keyfile"),
        "--access-log" if launch.access_log else "--no-access-log",
        launch.app,
    ]


def _gunicorn(launch: Launch) -> list[str]:
    return [
        *(_peer("gunicorn"), "-k", "asgi", "--no-control-socket"),
        *("--bind", f"127.0.0.1:{launch.port}", "--workers", str(launch.workers)),
        *("--keep-alive", str(KEEP_ALIVE_SECONDS), "--backlog", str(BACKLOG)),
        *("--worker-connections", str(MOST_CONNECTIONS)),
        *_tls(launch, "--certfile", "--keyfile"),
        *(("--access-logfile", "-") if launch.access_log else ()),
        launch.app,
    ]


def _hypercorn(launch: Launch) -> list[str]:
    return [
        *(_peer("hypercorn"), "--worker-class", "uvloop"),
        *_tls(launch, "--certfile", "--keyfile"),
        *("--bind", f"127.0.0.1:{launch.port}", "--workers", str(launch.workers)),
        *("--keep-alive", str(KEEP_ALIVE_SECONDS), "--backlog", str(BACKLOG)),
        *(("--access-logfile", "-") if launch.access_log else ()),
        launch.app,
    ]


def _rsgi(executable: str) -> Callable[[Launch], list[str]]:
    def command(launch: Launch) -> list[str]:
        return [
            *(executable, "--port", str(launch.port), "--workers", str(launch.workers)),
            *("--timeout-keep-alive", str(KEEP_ALIVE_SECONDS), "--backlog", str(BACKLOG)),
            *_tls(launch, "--ssl-certfile", "--ssl-keyfile"),
            "--access-log" if launch.access_log else "--no-access-log",
            launch.app,
        ]

    return command


def _build(name: str) -> str:
    package = BENCHES / name
    target = Path(os.environ.get("CARGO_TARGET_DIR", package / "target"))
    subprocess.run(
        ["cargo", "build", "--release", "--quiet", "--locked", "--target-dir", str(target)],
        cwd=package,
        check=True,
    )
    return str(target / "release" / f"rsgi-bench-{name}")


@functools.cache
def websocket_load() -> str:
    """Build the load generator for WebSockets; return its path."""
    return _build("websocket")


def _hyper_version() -> str:
    lock = (BENCHES / "hyper" / "Cargo.lock").read_text()
    found = re.search(r'name = "hyper"\nversion = "([^"]+)"', lock)
    return found[1] if found else "unknown"


def participants(names: list[str], rsgi: str, hyper: str | None) -> list[Server]:
    """Return the servers asked for that are installed; say which are not."""
    peers = {
        "uvicorn": _uvicorn,
        "granian": _granian,
        "gunicorn": _gunicorn,
        "hypercorn": _hypercorn,
    }
    titles = {"uvicorn": "uvicorn (uvloop, httptools)", "gunicorn": "gunicorn -k asgi"}
    found = []
    for name in names:
        if name == "hyper":
            binary = hyper or _build("hyper")
            found.append(
                Server(name, "bare hyper, no Python", _hyper_version(), _fixed(binary), False, True)
            )
        elif name == "rsgi":
            found.append(Server(name, name, rsgi_version(rsgi), _rsgi(rsgi), speaks_http2=True))
        else:
            try:
                version = metadata.version(name)
            except metadata.PackageNotFoundError:
                print(f"{name}: skipped, not installed beside {sys.executable}")
                continue
            found.append(
                Server(
                    *(name, titles.get(name, name), version, peers[name]),
                    speaks_http2=name in HTTP2_PEERS,
                )
            )
    return found


def _fixed(binary: str) -> Callable[[Launch], list[str]]:
    return lambda launch: [binary, str(launch.port), *(("2",) if launch.http2 else ())]


def rsgi_version(executable: str) -> str:
    """Ask rsgi for its version."""
    if shutil.which(executable) is None:
        raise SystemExit(f"no rsgi executable at `{executable}`: name it with --rsgi")
    asked = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True)
    return asked.stdout.split()[-1]


def environment(extra: dict[str, str]) -> dict[str, str]:
    """Return every server's environment: rsgi imports the peers' FastAPI, no other version."""
    kept = {key: value for key, value in os.environ.items() if not FOREIGN_SETTINGS.match(key)}
    paths = [str(BENCHES / "apps"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return kept | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))} | extra


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@functools.cache
def certificate() -> tuple[str, str]:
    """Make a certificate of the kind that most have today (ECDSA, P-256); return both files."""
    folder = tempfile.mkdtemp(prefix="rsgi-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    files = str(Path(folder, "certificate.pem")), str(Path(folder, "key.pem"))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *(
                "-nodes",
                "-subj",
                "/CN=localhost",
                "-days",
                "2",
                "-out",
                files[0],
                "-keyout",
                files[1],
            ),
        ],
        check=True,
        capture_output=True,
    )
    return files


def request(
    port: int, path: str, body: bytes | None = None, tls: bool = False
) -> tuple[int, bytes]:
    """Make one request on its own connection."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    if tls:
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        client = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=unverified)
    try:
        client.request("GET" if body is None else "POST", path, body)
        response = client.getresponse()
        return response.status, response.read()
    finally:
        client.close()


def _await_listener(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    raise RuntimeError(f"no listener after {START_SECONDS} s, exit status {process.poll()}")


@contextlib.contextmanager
def running(
    command: list[str], port: int, cores: list[int], extra: dict[str, str], sink: int | None = None
) -> Iterator[int]:
    """Run a server until the block ends; yield its process id. `sink` takes its output."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, cores)), *command],
            stdin=subprocess.DEVNULL,
            stdout=log if sink is None else sink,
            stderr=subprocess.STDOUT,
            env=environment(extra),
            start_new_session=True,
        )
        try:
            _await_listener(process, port)
            yield process.pid
        except Exception:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-4000:])
            raise
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads its own session: in order, then whatever is left of it."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{process.args!r} did not stop within {STOP_SECONDS} s: killed", file=sys.stderr)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
