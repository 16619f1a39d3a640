"""What is asked of every server: one table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

KIB = 1024
MIB = 1024 * KIB
FEW_CONNECTIONS = 8  # of 10 MB each: 64 would measure the machine's memory


class AccessLog(StrEnum):
    """Where the access log goes."""

    OFF = "off"
    FILE = "file"
    PIPE = "pipe"


@dataclass(frozen=True)
class Scenario:
    """One thing to measure."""

    name: str
    title: str
    app: str
    answer: bytes  # what the body must be, or its first bytes
    answer_length: int
    path: str = "/"
    upload: int = 0  # bytes; a POST when there are any
    message: int = 0  # bytes; a WebSocket's echo when there are any
    connections: tuple[int, ...] = (64,)
    access_log: AccessLog = AccessLog.OFF
    with_hyper: bool = False
    streams: int = 0  # HTTP/2, so many at a time on each connection; 0 is HTTP/1.1
    needs_redis: bool = False
    tls: bool = False
    fresh: bool = False  # a connection for each request
    servers: frozenset[str] | None = None  # only these; None is all that can
    fields: tuple[str, ...] = ()  # of the request, beside Host


HELLO = b"Hello world!"
JSON = b'{"message":"Hello world!"}'
WEBSOCKET = b"WebSocket"  # to an HTTP request
EVERY_LEVEL = (1, 64, 1000)
BROWSER = (
    'sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "upgrade-insecure-requests: 1",
    "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36",
    "accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "sec-fetch-site: same-origin",
    "sec-fetch-mode: navigate",
    "sec-fetch-dest: document",
    "referer: http://127.0.0.1/products?page=2&sort=price",
    "accept-encoding: gzip, deflate, br, zstd",
    "accept-language: en-GB,en;q=0.9,de;q=0.8",
    "cookie: session=1f0c9a7d5e3b4c2a8d6f; theme=dark; consent=necessary%2Cstatistics; visits=42",
)

SCENARIOS = (
    Scenario(
        *("bare", "Bare ASGI", "bare:app", HELLO, len(HELLO)),
        connections=EVERY_LEVEL,
        with_hyper=True,
    ),
    Scenario(
        *("browser", "Bare ASGI, what a browser asks", "bare:app", HELLO, len(HELLO)),
        path="/products/socks?size=42&colour=light%20grey",
        with_hyper=True,
        fields=BROWSER,
    ),
    Scenario(
        *("log-file", "Bare ASGI, access log to a file", "bare:app", HELLO, len(HELLO)),
        access_log=AccessLog.FILE,
    ),
    Scenario(
        *("log-pipe", "Bare ASGI, access log to a pipe", "bare:app", HELLO, len(HELLO)),
        access_log=AccessLog.PIPE,
    ),
    Scenario(
        *("fastapi", "FastAPI, one JSON route", "fastapi_json:app", JSON, len(JSON)),
        connections=EVERY_LEVEL,
    ),
    Scenario(
        *("download-64k", "64 KB response", "bodies:app", b"x", 64 * KIB),
        path=f"/{64 * KIB}",
    ),
    Scenario(
        *("upload-64k", "64 KB request", "bodies:app", b"65536", 5),
        upload=64 * KIB,
    ),
    Scenario(
        *("download-10m", "10 MB response", "bodies:app", b"x", 10 * MIB),
        path=f"/{10 * MIB}",
        connections=(FEW_CONNECTIONS,),
    ),
    Scenario(
        *("upload-10m", "10 MB request", "bodies:app", b"10485760", 8),
        upload=10 * MIB,
        connections=(FEW_CONNECTIONS,),
    ),
    Scenario("streaming", "Streamed response, 16 x 4 KB", "streaming:app", b"x", 64 * KIB),
    Scenario(
        *("http2-100", "HTTP/2, 100 streams at a time on each", "bare:app", HELLO, len(HELLO)),
        connections=(8,),
        with_hyper=True,
        streams=100,
    ),
    Scenario(
        *("http2-1", "HTTP/2, one stream at a time on each", "bare:app", HELLO, len(HELLO)),
        connections=(16,),
        with_hyper=True,
        streams=1,
    ),
    Scenario(
        *("http2-tls", "HTTP/2 over TLS, 100 streams at a time", "bare:app", HELLO, len(HELLO)),
        connections=(8,),
        streams=100,
        tls=True,
    ),
    Scenario(*("tls", "HTTPS", "bare:app", HELLO, len(HELLO)), tls=True),
    Scenario(
        *("tls-handshake", "HTTPS, a connection for each request", "bare:app", HELLO, len(HELLO)),
        tls=True,
        fresh=True,
    ),
    Scenario("sleep", "5 x `asyncio.sleep(0)`", "waiting:app", b"done", 4, path="/sleep"),
    Scenario("executor", "`run_in_executor`", "waiting:app", b"done", 4, path="/executor"),
    Scenario(
        *("ws-32", "WebSocket, echo of 32 B", "websocket_echo:app", WEBSOCKET, len(WEBSOCKET)),
        message=32,
        connections=EVERY_LEVEL,
    ),
    Scenario(
        *("ws-64k", "WebSocket, echo of 64 KB", "websocket_echo:app", WEBSOCKET, len(WEBSOCKET)),
        message=64 * KIB,
        connections=EVERY_LEVEL,
    ),
    Scenario("redis", "One redis `GET`", "cache:app", HELLO, len(HELLO), needs_redis=True),
)
