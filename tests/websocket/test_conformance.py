"""The cases of the Autobahn test suite, by its numbers, against an application that echoes.

The suite itself needs Python 2. Its public case descriptions are re-created here as tables of raw
frames: 1 framing, 2 pings, 3 reserved bits, 4 opcodes, 5 fragmentation, 6 UTF-8, 7 closing, 9 and
10 sizes, 12 and 13 compression. The client checks every byte that comes back.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Shared
from tests.support.server import Server
from tests.support.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    RawWebSocket,
    frame,
)

APP = "tests.apps.sockets.scenarios:app"

GREEK = "\u03ba\u1f79\u03c3\u03bc\u03b5"
Sent = list[tuple[int, int, bytes]]
Expected = list[tuple[int, bytes] | int]


@pytest.fixture
def client(shared: Shared) -> Iterator[RawWebSocket]:
    with RawWebSocket(shared(APP)) as client:
        yield client


def run(client: RawWebSocket, sent: Sent, expected: Expected, chop: int | None = None) -> None:
    """Send frames `(bits, opcode, payload)`; read frames, or in the end a close with a code."""
    data = b"".join(frame(opcode, payload, bits) for bits, opcode, payload in sent)
    step = chop or len(data) or 1
    for start in range(0, len(data), step):
        client.wire.send_as_far_as_accepted(data[start : start + step])
    for item in expected:
        if isinstance(item, int):
            client.expect_closed(item)
        else:
            client.expect(*item)
    if not (expected and isinstance(expected[-1], int)):
        client.send(CLOSE, b"\x03\xe8")
        client.expect_closed(1000)


# 1: framing. Every length form, whole and in pieces of some bytes.

LENGTHS = [0, 125, 126, 127, 128, 65535, 65536]


@pytest.mark.parametrize("chop", [None, 997], ids=["whole", "chopped"])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("opcode", "byte"), [(TEXT, b"*"), (BINARY, b"\xfe")], ids=["1.1", "1.2"])
def test_1_messages_of_all_lengths(
    client: RawWebSocket, opcode: int, byte: bytes, length: int, chop: int | None
) -> None:
    run(client, [(FIN, opcode, byte * length)], [(opcode, byte * length)], chop)


# 2: pings and pongs.

CASES_2: dict[str, tuple[Sent, Expected, int | None]] = {
    "2.1": ([(FIN, PING, b"")], [(PONG, b"")], None),
    "2.2": ([(FIN, PING, b"Hello, world!")], [(PONG, b"Hello, world!")], None),
    "2.3": ([(FIN, PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")],
            [(PONG, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")], None),
    "2.4": ([(FIN, PING, b"\xfe" * 125)], [(PONG, b"\xfe" * 125)], None),
    "2.5": ([(FIN, PING, b"\xfe" * 126)], [1002], None),
    "2.6": ([(FIN, PING, b"\xfe" * 125)], [(PONG, b"\xfe" * 125)], 1),
    "2.7": ([(FIN, PONG, b"")], [], None),
    "2.8": ([(FIN, PONG, b"unsolicited pong payload")], [], None),
    "2.9": ([(FIN, PONG, b"unsolicited"), (FIN, PING, b"ping")], [(PONG, b"ping")], None),
    "2.10": ([(FIN, PING, b"payload-%d" % n) for n in range(10)],
             [(PONG, b"payload-%d" % n) for n in range(10)], None),
    "2.11": ([(FIN, PING, b"payload-%d" % n) for n in range(10)],
             [(PONG, b"payload-%d" % n) for n in range(10)], 1),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES_2)
def test_2_pings(client: RawWebSocket, case: str) -> None:
    run(client, *CASES_2[case])


# 3 and 4: what is reserved.


@pytest.mark.parametrize("chop", [None, 1])
@pytest.mark.parametrize(
    ("bits", "opcode", "payload"),
    [
        (RSV3, TEXT, b"x"),
        (RSV2, TEXT, b"x"),
        (RSV2 | RSV3, TEXT, b"x"),
        (RSV1, TEXT, b"x"),
        (RSV1 | RSV3, BINARY, b"x"),
        (RSV1 | RSV2, PING, b"x"),
        (RSV1 | RSV2 | RSV3, CLOSE, b"\x03\xe8"),
    ],
    ids=["3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7"],
)
def test_3_reserved_bits(
    client: RawWebSocket, bits: int, opcode: int, payload: bytes, chop: int | None
) -> None:
    client.send(TEXT, b"before")
    client.expect(TEXT, b"before")
    run(client, [(FIN | bits, opcode, payload), (FIN, TEXT, b"after")], [1002], chop)


@pytest.mark.parametrize("payload", [b"", b"reserved"])
@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_4_reserved_opcodes(client: RawWebSocket, opcode: int, payload: bytes) -> None:
    run(client, [(FIN, opcode, payload), (FIN, PING, b"")], [1002])


# 5: fragmentation.

A, B = b"fragment1", b"fragment2"
CASES_5: dict[str, tuple[Sent, Expected]] = {
    "5.1": ([(0, PING, A), (FIN, CONTINUATION, B)], [1002]),
    "5.2": ([(0, PONG, A), (FIN, CONTINUATION, B)], [1002]),
    "5.3": ([(0, TEXT, A), (FIN, CONTINUATION, B)], [(TEXT, A + B)]),
    "5.6": ([(0, TEXT, A), (FIN, PING, b"ping"), (FIN, CONTINUATION, B)],
            [(PONG, b"ping"), (TEXT, A + B)]),
    "5.9": ([(FIN, CONTINUATION, b"x"), (FIN, TEXT, b"y")], [1002]),
    "5.12": ([(0, CONTINUATION, b"x"), (FIN, TEXT, b"y")], [1002]),
    "5.16": ([(0, CONTINUATION, A), (0, TEXT, B), (FIN, CONTINUATION, b"3")] * 2, [1002]),
    "5.17": ([(FIN, CONTINUATION, A), (0, TEXT, B), (FIN, CONTINUATION, b"3")] * 2, [1002]),
    "5.18": ([(0, TEXT, A), (FIN, TEXT, B)], [1002]),
    "5.19": ([(0, TEXT, b"1"), (0, CONTINUATION, b"2"), (FIN, PING, b"p1"),
              (0, CONTINUATION, b"3"), (0, CONTINUATION, b"4"), (FIN, PING, b"p2"),
              (FIN, CONTINUATION, b"5")],
             [(PONG, b"p1"), (PONG, b"p2"), (TEXT, b"12345")]),
}  # fmt: skip


@pytest.mark.parametrize("chop", [None, 1])
@pytest.mark.parametrize("case", CASES_5)
def test_5_fragments(client: RawWebSocket, case: str, chop: int | None) -> None:
    run(client, *CASES_5[case], chop)


def test_5_15_a_mistake_after_a_message(client: RawWebSocket) -> None:
    # What is sent together with the mistake may be lost with it.
    for bits, opcode, payload in [(0, TEXT, A), (FIN, CONTINUATION, B)]:
        client.send(opcode, payload, bits)
    client.expect(TEXT, A + B)
    run(client, [(0, CONTINUATION, b"3"), (FIN, TEXT, b"4")], [1002])


# 6: UTF-8. Whole, in fragments of one byte, and refused before the message ends.

VALID = [
    "Hello-\u00b5@\u00df\u00f6\u00e4\u00fc\u00e0\u00e1-UTF-8!!",
    GREEK,
    "\x00",
    "\x7f\u0080\u07ff\u0800\uffff",
    "\U00010000\U0010ffff\ufffe\uffff",
    "\ud7ff\ue000\ufffd",
    "".join(chr(n) for n in range(0x1FFFE, 0x10FFFF, 0x10000)),
    "",
]
INVALID = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
    b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80",
    b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf",
    b"\xf4\x90\x80\x80", b"\x80", b"\xbf", b"\x80\xbf", b"\x80\xbf\x80",
    bytes(range(0x80, 0xC0)), b"\xc0 \xc1 \xc2 ", b"\xe0 \xe1 ", b"\xf0 \xf1 ", b"\xfc \xfd ",
    b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xdf", b"\xef\xbf",
    b"\xf7\xbf\xbf", b"\xfe", b"\xff", b"\xfe\xfe\xff\xff",
    b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf",
    b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xc0\x80", b"\xe0\x80\x80",
    b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xaf\xbf\xed\xbf\xbf",
]  # fmt: skip


def bytewise(payload: bytes) -> Sent:
    """Return a text message in fragments of one byte each."""
    parts = [payload[n : n + 1] for n in range(len(payload))]
    frames = [(0, CONTINUATION if n else TEXT, part) for n, part in enumerate(parts)]
    return [*frames, (FIN, CONTINUATION if frames else TEXT, b"")]


@pytest.mark.parametrize("form", ["whole", "fragments", "chopped"])
@pytest.mark.parametrize("text", VALID, ids=ascii)
def test_6_valid_utf8(client: RawWebSocket, text: str, form: str) -> None:
    payload = text.encode()
    sent = bytewise(payload) if form == "fragments" else [(FIN, TEXT, payload)]
    run(client, sent, [(TEXT, payload)], 1 if form == "chopped" else None)


@pytest.mark.parametrize("form", ["whole", "fragments", "chopped"])
@pytest.mark.parametrize("payload", INVALID, ids=lambda payload: payload[:12].hex())
def test_6_invalid_utf8(client: RawWebSocket, payload: bytes, form: str) -> None:
    sent = bytewise(payload) if form == "fragments" else [(FIN, TEXT, payload)]
    run(client, sent, [1007], 1 if form == "chopped" else None)


WRONG_START = GREEK.encode() + b"\xf4\x90"


@pytest.mark.parametrize("case", ["6.4.1", "6.4.3"])
def test_6_4_invalid_utf8_fails_before_the_message_ends(client: RawWebSocket, case: str) -> None:
    if case == "6.4.1":
        client.send(TEXT, GREEK.encode(), first=0)
        client.send(CONTINUATION, b"\xf4\x90\x80\x80", first=0)
    else:
        whole = frame(TEXT, WRONG_START + b"\x80\x80edited" * 100)
        client.wire.send(whole[: 8 + len(WRONG_START)])
    client.expect_closed(1007)


# 7: closing.

VALID_CODES = [
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014,
    3000, 3999, 4000, 4999,
]  # fmt: skip
INVALID_CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


def test_7_1_1_a_message_before_the_close_is_answered(client: RawWebSocket) -> None:
    client.send(TEXT, b"Hello World!")
    client.expect(TEXT, b"Hello World!")
    client.send(CLOSE)
    client.expect_closed(1005)


@pytest.mark.parametrize(
    "late",
    [(CLOSE, b"\x03\xe8"), (PING, b"x"), (TEXT, b"x"), (CONTINUATION, b"x")],
    ids=["7.1.2", "7.1.3", "7.1.4", "7.1.5"],
)
def test_7_1_nothing_is_answered_after_the_close(
    client: RawWebSocket, late: tuple[int, bytes]
) -> None:
    run(client, [(FIN, CLOSE, b"\x03\xe8"), (FIN, *late)], [1000])


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", 1005),
        (b"a", 1002),
        (b"\x03\xe8", 1000),
        (b"\x03\xe8Hello World!", 1000),
        (b"\x03\xe8" + b"*" * 123, 1000),
        (b"\x03\xe8" + b"*" * 124, 1002),
        (b"\x03\xe8\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80", 1007),
    ],
    ids=["7.3.1", "7.3.2", "7.3.3", "7.3.4", "7.3.5", "7.3.6", "7.5.1"],
)
def test_7_close_payloads(client: RawWebSocket, payload: bytes, code: int) -> None:
    run(client, [(FIN, CLOSE, payload)], [code])


@pytest.mark.parametrize("code", VALID_CODES)
def test_7_7_valid_codes(client: RawWebSocket, code: int) -> None:
    run(client, [(FIN, CLOSE, code.to_bytes(2))], [code])


@pytest.mark.parametrize("code", INVALID_CODES)
def test_7_9_invalid_codes(client: RawWebSocket, code: int) -> None:
    run(client, [(FIN, CLOSE, code.to_bytes(2))], [1002])


# 9 and 10: sizes.

KIBIBYTE = 1024


@pytest.mark.parametrize("size", [64, 256, 1024, 4096, 8192, 16384], ids=lambda kib: f"{kib}K")
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["9.1", "9.2"])
def test_9_large_messages(client: RawWebSocket, opcode: int, size: int) -> None:
    payload = b"*" * (size * KIBIBYTE)
    run(client, [(FIN, opcode, payload)], [(opcode, payload)])


@pytest.mark.parametrize("size", [64, 256, 1024, 65536, 1 << 20])
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["9.3", "9.4"])
def test_9_large_messages_in_fragments(client: RawWebSocket, opcode: int, size: int) -> None:
    total = min(4 << 20, size * 4096)
    part = b"*" * size
    count = total // size
    frames = [(0, CONTINUATION if n else opcode, part) for n in range(count - 1)]
    run(client, [*frames, (FIN, CONTINUATION, part)], [(opcode, part * count)])


@pytest.mark.parametrize("chop", [64, 256, 1024])
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["9.5", "9.6"])
def test_9_chopped_messages(client: RawWebSocket, opcode: int, chop: int) -> None:
    payload = b"*" * (256 * KIBIBYTE)
    run(client, [(FIN, opcode, payload)], [(opcode, payload)], chop)


@pytest.mark.parametrize("size", [0, 16, 64, 256, 1024, 4096])
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["9.7", "9.8"])
def test_9_many_messages(client: RawWebSocket, opcode: int, size: int) -> None:
    for _ in range(100):
        client.send(opcode, b"*" * size)
        client.expect(opcode, b"*" * size)


def test_10_1_1_automatic_fragments(client: RawWebSocket) -> None:
    payload = b"*" * 65536
    parts = [payload[n : n + 1300] for n in range(0, len(payload), 1300)]
    frames = [(0, CONTINUATION if n else TEXT, part) for n, part in enumerate(parts[:-1])]
    run(client, [*frames, (FIN, CONTINUATION, parts[-1])], [(TEXT, payload)])


# 12 and 13: compression.

JSON_TEXT = json.dumps([{"id": n, "name": f"item {n}", "tags": ["a", "b"]} for n in range(4000)])
CONTENTS: dict[str, bytes] = {
    "12.1 JSON": JSON_TEXT.encode(),
    "12.2 UTF-8": ("\u017elu\u0165ou\u010dk\u00fd k\u016f\u0148 " * 10_000).encode(),
    "12.3 ASCII": b"The quick brown fox jumps over the lazy dog. " * 3000,
    "12.5 random": random.Random(1).randbytes(131072),
}
SIZES = [0, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072]


class Compressed:
    """A client's half of permessage-deflate."""

    def __init__(self, server: Server, offer: str) -> None:
        """Offer, and hold the server to what it answers."""
        self.socket = RawWebSocket(server, "/echo", ("Sec-WebSocket-Extensions", offer))
        answer = (self.socket.head.value(b"sec-websocket-extensions") or b"").decode()
        assert answer.startswith("permessage-deflate")
        self.answer = answer
        self._own_bits = self._bits("client")
        self._deflate = self._compressor()
        # A window no larger than the answer says: a server that used a larger one would fail here.
        self._inflate = zlib.decompressobj(-self._bits("server"))

    def _bits(self, side: str) -> int:
        found = [part for part in self.answer.split("; ") if part.startswith(f"{side}_max")]
        return int(found[0].partition("=")[2]) if found else 15

    def _compressor(self) -> Any:
        return zlib.compressobj(6, zlib.DEFLATED, -max(9, self._own_bits))

    def compress(self, payload: bytes) -> bytes:
        """Compress a message."""
        if "client_no_context_takeover" in self.answer:
            self._deflate = self._compressor()
        data = self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return bytes(data.removesuffix(b"\x00\x00\xff\xff"))

    def read(self) -> tuple[int, bytes]:
        """Read a message."""
        got = self.socket.read()
        assert got.first & FIN
        if not got.first & RSV1:
            return got.opcode, got.payload
        if "server_no_context_takeover" in self.answer:
            self._inflate = zlib.decompressobj(-self._bits("server"))
        return got.opcode, self._inflate.decompress(got.payload + b"\x00\x00\xff\xff")


OFFERS = {
    "13.1": "permessage-deflate",
    "13.2": "permessage-deflate; server_no_context_takeover",
    "13.3": "permessage-deflate; server_max_window_bits=9",
    "13.4": "permessage-deflate; server_max_window_bits=15",
    "13.5": "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
    "13.6": "permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
    "13.7": "permessage-deflate; client_no_context_takeover; client_max_window_bits=9,"
    " permessage-deflate",
    "13.8": "permessage-deflate; client_max_window_bits",
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("case", OFFERS)
def test_12_and_13_compressed_messages(shared: Shared, case: str, content: str) -> None:
    client = Compressed(shared(APP), OFFERS[case])
    with client.socket:
        for size in SIZES:
            payload = CONTENTS[content][:size]
            for bits, sent in [(RSV1, client.compress(payload)), (0, payload)]:
                client.socket.send(BINARY, sent, FIN | bits)
                assert client.read() == (BINARY, payload)


@pytest.mark.parametrize("pieces", [2, 7, 100])
def test_12_compressed_messages_in_fragments(shared: Shared, pieces: int) -> None:
    client = Compressed(shared(APP), "permessage-deflate; client_max_window_bits")
    with client.socket:
        for _ in range(3):
            payload = CONTENTS["12.2 UTF-8"]
            data = client.compress(payload)
            step = len(data) // pieces + 1
            parts = [data[n : n + step] for n in range(0, len(data), step)]
            for number, part in enumerate(parts):
                first = (0 if number else RSV1) | (FIN if number == len(parts) - 1 else 0)
                client.socket.send(CONTINUATION if number else TEXT, part, first)
                client.socket.send(PING, b"p")
                if number < len(parts) - 1:
                    client.socket.expect(PONG, b"p")
            # The echo and the last answer come in either order.
            assert {client.read(), client.read()} == {(TEXT, payload), (PONG, b"p")}


@pytest.mark.parametrize("data", [b"\xff" * 20, b"\x07\x00"], ids=["garbage", "reserved block"])
def test_12_what_is_not_deflate_is_refused(shared: Shared, data: bytes) -> None:
    client = Compressed(shared(APP), "permessage-deflate")
    with client.socket:
        client.socket.send(BINARY, data, FIN | RSV1)
        client.socket.expect_closed(1002)


def test_12_compressed_text_is_checked_for_utf8(shared: Shared) -> None:
    client = Compressed(shared(APP), "permessage-deflate")
    with client.socket:
        client.socket.send(TEXT, client.compress(b"ok \xff"), FIN | RSV1)
        client.socket.expect_closed(1007)
