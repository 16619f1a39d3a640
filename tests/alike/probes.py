"""What is looked at: each probe returns what a user of the server could see."""

from __future__ import annotations

import re
import socket
import ssl
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM
from typing import Any

from tests.alike.program import PATIENCE, Program
from tests.support.waiting import settled
from tests.support.websocket import CLOSE, PING, TEXT, RawWebSocket, handshake
from tests.support.wire import Cut, Wire

Probe = Callable[[Program], Any]

FORWARDED = (("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https"))


def about(*names: str, target: str = "/", headers: tuple[tuple[str, str], ...] = ()) -> Probe:
    """What the application sees under these names."""

    def probe(program: Program) -> dict[str, Any]:
        seen = program.about(target, headers)
        return {name: seen[name] for name in names}

    return probe


def fields(*names: str) -> Probe:
    """The values of these fields of a response."""

    def probe(program: Program) -> dict[str, list[bytes]]:
        response = program.get()
        return {name: response.values(name.encode()) for name in names}

    return probe


def together(*probes: Probe) -> Probe:
    """Several probes of one server."""

    def probe(program: Program) -> list[Any]:
        return [one(program) for one in probes]

    return probe


def where(program: Program) -> dict[str, Any]:
    """Where it listens."""
    address = program.address
    assert isinstance(address, tuple)
    host, port = address
    elsewhere = socket.socket()
    with elsewhere:
        refused = elsewhere.connect_ex(("127.0.0.1", int(port))) != 0
    asked_for = (program.keywords["host"], program.keywords["port"])
    return {
        "server": program.about()["server"],
        "only there": refused,
        "as asked": (host, port) == asked_for,
    }


def ending(*texts: str) -> Probe:
    """How it ends by itself, and which of these texts it says."""

    def probe(program: Program) -> dict[str, Any]:
        status = program.wait()
        said = program.err()
        found = {text: text.lower() in said.lower() for text in texts}
        return {"status": status, **found, "Traceback": "Traceback" in said}

    return probe


def unix_socket(program: Program) -> dict[str, Any]:
    """The socket's file, and who is on both ends."""
    path = Path(program.keywords["uds"])
    seen = program.about()
    mode = oct(stat.S_IMODE(path.stat().st_mode))
    program.stop()
    ends = {name: seen[name] for name in ("client", "scheme")}
    return {"mode": mode, **ends, "removed": not path.exists()}


def lifespan(program: Program) -> dict[str, Any]:
    """Whether the application is told of start and stop, and has a state."""
    seen = program.about()
    program.stop()
    said = re.findall("APP: (startup|shutdown)", program.err())
    return {"state": seen["state"].get("number"), "said": said}


def log(program: Program) -> dict[str, Any]:
    """Which lines there are on both streams, and whether they are coloured."""
    program.get("/seen")
    program.stop()
    out, err = program.out(), program.err()
    return {
        "access": '"GET /seen HTTP/1.1' in _plain(out),
        "startup": "Application startup complete." in _plain(err),
        "colours": sorted({name for name, text in (("out", out), ("err", err)) if "\x1b[" in text}),
    }


def failure(program: Program) -> dict[str, Any]:
    """Whether an exception of the application's is in the log."""
    status = program.get("/broken").status
    program.stop()
    return {"status": status, "logged": "LookupError: as asked for" in program.err()}


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[\d*m", "", text)


def lines_of(name: str) -> Probe:
    """The lines of a file in the directory that a configuration of `logging` writes to."""

    def probe(program: Program) -> list[str]:
        program.get("/logged?a=b")
        path = program.directory / name
        program.wait_for(lambda: path.exists() and "/logged" in path.read_text(), "a record")
        program.stop()
        text = re.sub(r"127\.0\.0\.1:\d+", "CLIENT", path.read_text())
        return [line for line in text.splitlines() if "/logged" in line]

    return probe


def parent_in(name: str) -> Probe:
    """What of the parent process's lines is in such a file, beside a worker's."""

    def probe(program: Program) -> list[str]:
        program.get("/logged")
        program.stop(SIGTERM)
        text = (program.directory / name).read_text()
        line = r"^(uvicorn\.error INFO (?:Started|Stopp\w+) (?:server|parent) process) \["
        return sorted(
            {found.replace("Stopping", "Stopped") for found in re.findall(line, text, re.M)}
        )

    return probe


def concurrency(program: Program) -> dict[str, Any]:
    """What happens to a request beyond the limit."""
    limit = program.keywords["limit_concurrency"]
    held: list[Wire] = []
    try:
        for _ in range(limit):
            held.append(program.connect())
            held[-1].request("/wait")
        response = program.wait_for(lambda: _refused(program), "a refusal")
        return {"status": response.status, "body": response.body}
    finally:
        for wire in held:
            wire.close()


def _refused(program: Program) -> Any:
    with program.connect() as wire:
        response = wire.get("/")
        return response if response.status != 200 else None


def backlog(program: Program) -> int:
    """How many connections the kernel holds while nobody accepts."""
    program.about()
    program.process.send_signal(SIGSTOP)
    waiting: list[socket.socket] = []
    try:
        while len(waiting) < 100:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            waiting.append(client)
            if client.connect_ex(str(program.address)) != 0:
                break
        return len(waiting) - 1
    finally:
        for client in waiting:
            client.close()
        program.process.send_signal(SIGCONT)


def served_before_the_end(program: Program) -> dict[str, Any]:
    """How many requests are served before it ends by itself, and how."""
    served = 0
    with program.connect() as wire:
        for _ in range(program.keywords["limit_max_requests"]):
            served += wire.get().status == 200
    return {"served": served, "status": program.wait(), "returned": "RETURNED" in program.err()}


def idle_time(program: Program) -> str:
    """When an idle connection is closed."""
    with program.connect() as wire:
        wire.get()
        since = time.monotonic()
        wire.assert_closed(PATIENCE)
        took = time.monotonic() - since
    # The default is five seconds.
    return "early" if took < 0.9 else "in time" if took < 4.5 else "late"


def hurried_stop(program: Program) -> dict[str, Any]:
    """What a request that does not end holds up."""
    with program.connect() as wire:
        wire.request("/hang")
        program.wait_for_log("APP: hanging")
        since = time.monotonic()
        program.process.send_signal(SIGTERM)
        program.wait()
        took = time.monotonic() - since
    said = "Cancel 1 running task(s), timeout graceful shutdown exceeded" in program.err()
    return {"in time": 0.9 < took < 20, "said": said, "lifespan": "APP: shutdown" in program.err()}


def long_head(program: Program) -> dict[str, Any]:
    """What becomes of a head below the limit, and of one above."""
    limit = program.keywords["h11_max_incomplete_event_size"]
    with program.connect() as wire:
        below = wire.get("/", (("X-Long", "x" * (limit - 400)),)).status
    with program.connect() as wire:
        wire.send_as_far_as_accepted(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 4 * limit)
        above = wire.read_head().status
    return {"below": below, "above is refused": 400 <= above < 500}


def websocket(*offers: tuple[str, str]) -> Probe:
    """What the handshake is answered with."""

    def probe(program: Program) -> dict[str, Any]:
        with program.connect() as wire:
            wire.send(handshake("/ws", *offers))
            head = wire.read_head()
            deflate = head.values(b"sec-websocket-extensions")
            return {"status": head.status, "deflate": bool(deflate)}

    return probe


def _open(program: Program) -> RawWebSocket:
    return RawWebSocket(program, "/ws")


def message_limit(program: Program) -> dict[str, Any]:
    """What becomes of a message at the limit, and of one above."""
    limit = program.keywords["ws_max_size"]
    client = _open(program)
    client.send(TEXT, b"x" * limit)
    answer = client.read().payload
    client.send(TEXT, b"x" * (limit + 1))
    closed = client.read()
    return {"at": answer, "above": closed.close_code}


def pings(program: Program) -> dict[str, Any]:
    """Whether pings come, and what becomes of a client that does not answer."""
    client = _open(program)
    first = client.read().opcode
    last = client.read()
    while last.opcode == PING:
        last = client.read()
    return {"first": first == PING, "last": last.opcode == CLOSE, "code": last.close_code}


def no_pings(program: Program) -> bool:
    """Whether a WebSocket stays quiet for longer than the other rows' ping interval."""
    client = _open(program)
    return not client.wire.is_readable(1.0)


def encrypted(
    *names: str, make: Callable[[ssl.SSLContext, Path], None] = lambda _context, _path: None
) -> Probe:
    """What is agreed on with a client that trusts the test's authority."""

    def probe(program: Program) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=str(program.directory / "ca.crt"))
        make(context, program.directory)
        seen: dict[str, Any] = {}
        with (
            program.connect() as wire,
            context.wrap_socket(wire.socket, server_hostname="localhost") as connected,
        ):
            response = Wire.over(connected).get()
            seen = {
                "status": response.status,
                "scheme": b'"scheme": "https"' in response.body,
                "cipher": (connected.cipher() or ("",))[0],
                "version": connected.version(),
            }
        return {name: seen[name] for name in names}

    return probe


def refuses_strangers(program: Program) -> dict[str, Any]:
    """Whether a client without a certificate is served, and one with."""
    with_one = encrypted("status", make=_with_certificate)(program)["status"]
    try:
        without = encrypted("status")(program)["status"]
    except (OSError, Cut):
        without = "refused"
    return {"with": with_one, "without": without}


def _with_certificate(context: ssl.SSLContext, directory: Path) -> None:
    context.load_cert_chain(directory / "client.crt", directory / "client.key")


def several_processes(program: Program) -> dict[str, Any]:
    """Which processes answer, and how all of them end."""
    pids = set()

    def both() -> bool:
        pids.add(program.about()["pid"])
        return len(pids) == 2

    program.wait_for(both, "answers of two processes")
    status = program.stop(SIGTERM)
    return {"processes": len(pids), "other": program.process.pid not in pids, "status": status}


def reloads(program: Program) -> dict[str, Any]:
    """Which changes make a new generation of the application."""
    module = program.directory / "watched" / "app_here.py"

    def change(name: str) -> None:
        path = program.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("changed = True\n")

    def generation() -> int:
        with suppress(OSError, Cut, ValueError):  # just now there is nobody
            number: int = program.about()["generation"]
            return number
        return 0

    def renew(number: int) -> None:
        # The module itself is excluded: what makes it be read anew is another file.
        module.write_text(f"{module.read_text()}\nGENERATION = {number}\n")

    def renewed() -> bool:
        change("watched/template.txt")  # again and again: a watcher may not have begun
        return settled(generation, quiet=0.4, deadline=PATIENCE) == 2

    assert generation() == 1
    renew(2)
    program.wait_for(renewed, "the new code")
    renew(3)
    change("watched/skipped.py")
    change("beside/other.py")
    return {"after others": settled(generation, quiet=1.0, deadline=PATIENCE)}
