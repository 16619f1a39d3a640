"""Whatever bytes requests carry, every line of the logs is one record, and every request is in one.

100,000 requests for each format.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only
from tests.support.server import ROOT, Server
from tests.support.waiting import eventually
from tests.support.wire import Wire

pytestmark = [rsgi_only("has one format"), pytest.mark.timeout(300)]

REQUESTS = 100_000
BATCH = 100
CONNECTIONS = 4
REFUSED = 200
PATIENCE = 120.0

#: RFC 9110, 5.6.2 and 5.5: what a method and a value may have in them.
TOKEN = bytes(b for b in range(0x21, 0x7F) if chr(b).isalnum() or b in b"!#$%&'*+-.^_`|~")
VALUE = bytes(b for b in range(0x21, 0x100) if b != 0x7F)
TARGET = bytes(b for b in range(0x21, 0x7F) if b not in b"#?")
ANY = bytes(range(0x100))


class Source:
    """Random bytes, the same in each run."""

    def __init__(self) -> None:
        """Begin."""
        self._random = random.Random(20261128)

    def some(self, alphabet: bytes, most: int) -> bytes:
        """Return one byte or more of an alphabet."""
        return bytes(self._random.choices(alphabet, k=self._random.randint(1, most)))

    def request(self, number: int) -> bytes:
        """Return a request that has to be served, with its number in the query."""
        method = b"GET" if number % 3 else self.some(TOKEN, 12)
        if method in (b"CONNECT", b"HEAD"):
            method = b"GET"
        target = b"/%s?n=%d&%s" % (self.some(TARGET, 30), number, self.some(TARGET, 30))
        agent, other = self.some(VALUE, 40), self.some(VALUE, 40)
        trace = self.some(VALUE, 60)
        return b"%s %s HTTP/1.1\r\nHost: a\r\nUser-Agent: %s\r\n" % (
            method,
            target,
            agent,
        ) + b"X-Request-ID: %s\r\nTraceparent: %s\r\n\r\n" % (other, trace)

    def nonsense(self) -> bytes:
        """Return what has to be refused."""
        target = self.some(ANY, 40).replace(b"\n", b"\xff") + b"\x80"
        return b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % target


def ask(server: Server, source: Source, count: int) -> None:
    """Send requests in batches on a few connections; each has to be answered with 200."""
    wires = [server.connect(timeout=PATIENCE) for _ in range(CONNECTIONS)]
    for start in range(0, count, BATCH * CONNECTIONS):
        batches = [range(at, at + BATCH) for at in range(start, start + BATCH * CONNECTIONS, BATCH)]
        for wire, numbers in zip(wires, batches, strict=True):
            wire.send(b"".join(source.request(number) for number in numbers))
        for wire in wires:
            _read_batch(wire)
    for wire in wires:
        wire.close()


def _read_batch(wire: Wire) -> None:
    received = b""
    while received.count(b"\r\n\r\n") < BATCH:
        piece = wire.read_some()
        assert piece, "the connection was closed"
        received += piece
    assert received.count(b"HTTP/1.1 200 OK\r\n") == BATCH, received[-300:]


def refuse(server: Server, source: Source, count: int) -> None:
    """Send what has to be refused, each on its own connection."""
    for _ in range(count):
        with server.connect(timeout=PATIENCE) as wire:
            wire.send_as_far_as_accepted(source.nonsense())
            assert wire.read_head().status == 400


def from_json(line: str) -> dict[str, Any]:
    """Return the members of a request's object."""
    found: dict[str, Any] = json.loads(line)
    members = ("time level logger pid worker peer method path query http_version type status "
               "duration bytes request_id traceparent").split()  # fmt: skip
    assert list(found) == members
    number = re.match("n=([0-9]+)&", found["query"])
    assert number, line
    return {"number": int(number[1]), **found}


def pattern() -> re.Pattern[str]:
    """Return the regular expression that the documentation has for a line of text."""
    page = (ROOT / "docs/reference/logs.md").read_text()
    found = re.search(r"```regex\n(.+?)\n```", page, re.DOTALL)
    assert found
    return re.compile(found[1])


def from_text(line: str) -> dict[str, Any]:
    """Return the groups of the documentation's expression."""
    found = pattern().fullmatch(line)
    assert found, line
    number = re.search(r"\?n=([0-9]+)&", found["target"])
    assert number, line
    return {**found.groupdict(), "number": int(number[1]), "status": int(found["status"])}


def message_of_json(line: str) -> str:
    """Return the message of an object in the error log."""
    message: str = json.loads(line)["message"]
    return message


def message_of_text(line: str) -> str:
    """Return what follows time, process and level."""
    found = re.fullmatch(r"20\S+Z \[\d+\] [A-Z]+: +(\S.*)", line)
    assert found, line
    return found[1]


@pytest.mark.parametrize(
    ("flags", "read", "message"),
    [
        (("--log-format", "json"), from_json, message_of_json),
        ((), from_text, message_of_text),
    ],
    ids=["json", "text"],
)
def test_every_line_is_a_record_and_every_request_is_in_one(
    serve: Serve,
    flags: tuple[str, ...],
    read: Callable[[str], dict[str, Any]],
    message: Callable[[str], str],
) -> None:
    server = serve("tests.apps.logged:anything", *flags, ready=False)
    server.wait_until_announced()
    source = Source()
    refuse(server, source, REFUSED)
    ask(server, source, REQUESTS)

    def refusals() -> int:
        # Floods are counted; what was left out of one second is told with the next refusal.
        texts = [message(line) for line in server.stderr().split("\n")[:-1]]
        told = sum("Invalid HTTP request received from" in text for text in texts)
        more = [re.match(r"(\d+) more invalid requests", text) for text in texts]
        return told + sum(int(found[1]) for found in more if found)

    refuse(server, source, 1)
    eventually(lambda: refusals() == REFUSED + 1, "a line for each refusal, or its count")
    assert server.stop(PATIENCE) == 0
    lines = server.stdout().split("\n")
    assert lines.pop() == ""
    records = [read(line) for line in lines]
    assert sorted(record["number"] for record in records) == list(range(REQUESTS))
    assert {record["status"] for record in records} == {200}
