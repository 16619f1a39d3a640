"""nginx in front, as the guide configures it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.conftest import Serve
from tests.proxies.nginx import Nginx, load_stream_module, needs_nginx, upstream_of
from tests.proxies.support import BEHIND, v1
from tests.support.flavour import rsgi_only
from tests.support.server import Server
from tests.support.wire import Wire

pytestmark = needs_nginx

Start = Callable[..., Nginx]

HTTP = """
http {
    PLACES
    access_log off;
    map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
    upstream app { server UPSTREAM; keepalive 8; }
    server {
        listen PORT;
        location /api/ {
            proxy_pass http://app/;
            proxy_set_header X-Forwarded-Prefix /api;
            include headers;
        }
        location / {
            proxy_pass http://app;
            proxy_set_header X-Forwarded-Prefix "";
            include headers;
        }
    }
}
"""
# `https` for `$scheme`: that the client's connection is encrypted is for nginx to know.
HEADERS = """
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade;
proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto https;
proxy_set_header X-Forwarded-Host $http_host;
"""
STREAM = """
stream {
    access_log off;
    server { listen PORT; proxy_pass UPSTREAM; proxy_protocol on; }
}
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Nginx] = []

    def run(body: str, server: Server, head: str = "") -> Nginx:
        (tmp_path / "headers").write_text(HEADERS)
        nginx = Nginx(tmp_path, body.replace("UPSTREAM", upstream_of(server)), head)
        started.append(nginx)
        return nginx

    yield run
    for nginx in started:
        nginx.stop()


@pytest.fixture(params=["tcp", "unix"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Return the flags for a listener of either kind."""
    return ["--uds", str(tmp_path / "app.sock")] if request.param == "unix" else []


def ask(url: str, *fields: tuple[str, str]) -> dict[str, Any]:
    with httpx.Client(trust_env=False, timeout=20) as client:
        told: dict[str, Any] = client.get(url, headers=fields).raise_for_status().json()
    return told


@rsgi_only("trusts no client of a Unix socket, and reads neither host nor prefix")
def test_starlette_sees_the_client_through_nginx(
    serve: Serve, start: Start, place: list[str]
) -> None:
    read = "x-forwarded-for,x-forwarded-proto,x-forwarded-host,x-forwarded-prefix"
    server = serve(BEHIND, *place, "--forwarded-headers", read)
    nginx = start(HTTP, server)
    host = f"127.0.0.1:{nginx.port}"
    for prefix in ("", "/api"):
        # what a client claims is in front of what nginx knows
        told = ask(f"{nginx.url}{prefix}/about", ("X-Forwarded-For", "198.51.100.9"))
        # nginx trusts nobody: its client is the right-most, and this machine is trusted here
        assert told["client"] == ["198.51.100.9", 0]
        assert told["url"] == f"https://{host}{prefix}/about"
        assert told["link"] == f"https://{host}{prefix}/about"
    told = ask(f"{nginx.url}/about")
    assert told["client"] == ["127.0.0.1", 0]
    server.wait_for_access_line(r'198\.51\.100\.9:0 - "GET /about HTTP/1\.1" 200 OK')


@rsgi_only("trusts no client of a Unix socket")
def test_a_client_of_nginx_cannot_be_somebody_else(
    serve: Serve, start: Start, tmp_path: Path
) -> None:
    # nginx is trusted at its socket, and its own client is not
    flags = ["--uds", str(tmp_path / "app.sock"), "--forwarded-allow-ips", "unix:"]
    server = serve(BEHIND, *flags)
    nginx = start(HTTP, server)
    told = ask(
        f"{nginx.url}/about",
        ("X-Forwarded-For", "198.51.100.9"),
        ("Forwarded", "for=198.51.100.9;host=evil.example"),
        ("X-Forwarded-Proto", "http"),
    )
    assert told["client"] == ["127.0.0.1", 0]
    # nginx's Host is without the port here; X-Forwarded-Host is not read unless it is asked for
    assert told["url"] == "https://127.0.0.1/about"


def test_a_websocket_goes_through_nginx(serve: Serve, start: Start) -> None:
    nginx = start(HTTP, serve(BEHIND))
    options = {"additional_headers": {"X-Forwarded-For": "198.51.100.9"}, "proxy": None}
    with connect(f"ws://127.0.0.1:{nginx.port}/talk", **options) as websocket:  # type: ignore[arg-type]
        told = json.loads(websocket.recv())
    assert told["client"] == ["198.51.100.9", 0]
    assert told["url"].startswith("wss://")


@rsgi_only("does not know the PROXY protocol")
def test_the_client_of_a_stream_is_the_one_of_nginx(
    serve: Serve, start: Start, place: list[str]
) -> None:
    head = load_stream_module()
    server = serve(BEHIND, *place, "--proxy-protocol", "v1")
    nginx = start(STREAM, server, head)
    with Wire(("127.0.0.1", nginx.port)) as wire:
        for _ in range(2):
            told = json.loads(wire.get("/about").body)
            assert told["client"] == ["127.0.0.1", wire.socket.getsockname()[1]]
    # a client's own header is content to nginx, and a bad request behind nginx's
    with Wire(("127.0.0.1", nginx.port)) as wire:
        wire.send(v1() + b"GET /about HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wire.read_response().status == 400
