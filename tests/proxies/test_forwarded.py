"""Forwarded fields: whose are believed, which, and what an application sees of them."""

from __future__ import annotations

import ast
import contextlib
import http.client
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve, Shared
from tests.proxies.support import BEHIND, SCOPE, scope_of, scope_on
from tests.support.certificates import Authority
from tests.support.flavour import rsgi_only
from tests.support.http2 import Http2
from tests.support.server import Server
from tests.support.websocket import open_client
from tests.support.wire import Wire

FOR = ("X-Forwarded-For", "198.51.100.7")
SECURE = ("X-Forwarded-Proto", "https")
ALL = "x-forwarded-for,x-forwarded-proto,x-forwarded-host,x-forwarded-prefix"


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared(SCOPE)


@pytest.fixture
def reader(shared: Shared) -> Server:
    """Return a server that reads all X-Forwarded fields."""
    return shared(SCOPE, "--forwarded-headers", ALL)


def test_address_and_scheme_are_the_client_s(server: Server) -> None:
    scope = scope_of(server, FOR, SECURE)
    assert (scope["client"], scope["scheme"]) == (("198.51.100.7", 0), "https")
    assert scope["server"] == ("127.0.0.1", server.port)
    assert (b"x-forwarded-for", b"198.51.100.7") in scope["headers"]


def test_one_request_does_not_speak_for_the_next(server: Server) -> None:
    with server.connect() as wire:
        assert scope_on(wire, fields=(FOR, SECURE))["client"] == ("198.51.100.7", 0)
        host, _, port = wire.name.partition(":")
        scope = scope_on(wire)
        assert (scope["client"], scope["scheme"]) == ((host, int(port)), "http")


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("198.51.100.9, 198.51.100.7", ("198.51.100.7", 0)),
        ("198.51.100.9, 198.51.100.7, 127.0.0.1", ("198.51.100.7", 0)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("198.51.100.7:4711", ("198.51.100.7", 4711)),
        ("[2001:db8::1]:80", ("2001:db8::1", 80)),
    ],
)
@rsgi_only("has other rules for ports")
def test_the_right_most_stranger_is_the_client(
    server: Server, chain: str, client: tuple[str, int]
) -> None:
    assert scope_of(server, ("X-Forwarded-For", chain))["client"] == client


@pytest.mark.parametrize("chain", ["unknown", "198.51.100.9, unknown", "", ",", "198.51.100.9,"])
@rsgi_only("takes any text for an address")
def test_a_chain_that_cannot_be_read_changes_nothing(server: Server, chain: str) -> None:
    assert scope_of(server, ("X-Forwarded-For", chain))["client"][0] == "127.0.0.1"


def test_several_lines_are_one_chain(server: Server) -> None:
    lines = [("X-Forwarded-For", "198.51.100.9"), ("x-forwarded-for", "198.51.100.7")]
    assert scope_of(server, *lines)["client"] == ("198.51.100.7", 0)


@pytest.mark.parametrize("flags", [["--no-proxy-headers"], ["--forwarded-allow-ips", "10.0.0.0/8"]])
def test_strangers_are_not_believed(shared: Shared, flags: list[str]) -> None:
    scope = scope_of(shared(SCOPE, *flags), FOR, SECURE)
    assert (scope["client"][0], scope["scheme"]) == ("127.0.0.1", "http")


@pytest.mark.parametrize("trusted", ["*", "private", "loopback", "10.0.0.1, 127.0.0.0/8"])
@rsgi_only("has no presets")
def test_the_trusted_are_named_in_many_ways(serve: Serve, trusted: str) -> None:
    server = serve(SCOPE, env={"FORWARDED_ALLOW_IPS": trusted})
    assert scope_of(server, FOR)["client"] == ("198.51.100.7", 0)


@pytest.mark.parametrize(
    ("flags", "client"),
    [
        ([], ("198.51.100.7", 0)),
        (["--forwarded-allow-ips", "unix:"], ("198.51.100.7", 0)),
        (["--forwarded-allow-ips", "127.0.0.1"], None),
    ],
)
@rsgi_only("trusts no client of a Unix socket")
def test_who_connects_to_a_unix_socket_is_on_this_machine(
    serve: Serve, tmp_path: Path, flags: list[str], client: object
) -> None:
    server = serve(SCOPE, "--uds", str(tmp_path / "s"), *flags)
    assert scope_of(server, FOR)["client"] == client


@rsgi_only("reads neither")
def test_host_and_prefix_are_read_where_they_are_asked_for(server: Server, reader: Server) -> None:
    fields = [("X-Forwarded-Host", "example.org:8443"), ("X-Forwarded-Prefix", "/a%20b/")]
    scope = scope_of(server, *fields, target="/c")
    assert dict(scope["headers"])[b"host"] == b"localhost"
    assert (scope["root_path"], scope["path"]) == ("", "/c")

    scope = scope_of(reader, *fields, target="/c%2f?d")
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    assert hosts == [b"example.org:8443"]
    assert (scope["root_path"], scope["path"]) == ("/a b", "/a b/c/")
    assert (scope["raw_path"], scope["query_string"]) == (b"/a%20b/c%2f", b"d")


@pytest.mark.parametrize(
    "prefix", ["evil", "//evil.example", "/a?b", "/a\\b", "http://evil.example"]
)
@rsgi_only("reads no prefix")
def test_a_prefix_that_is_none_changes_nothing(reader: Server, prefix: str) -> None:
    scope = scope_of(reader, ("X-Forwarded-Prefix", prefix), target="/c")
    assert (scope["root_path"], scope["path"]) == ("", "/c")


@rsgi_only("reads no prefix")
def test_a_prefix_replaces_the_root_path_of_the_settings(serve: Serve) -> None:
    server = serve(SCOPE, "--root-path", "/api", "--forwarded-headers", ALL)
    assert scope_of(server, target="/c")["path"] == "/api/c"
    scope = scope_of(server, ("X-Forwarded-Prefix", "/api"), target="/c")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api", "/api/c", b"/api/c")


@rsgi_only("does not read it")
def test_forwarded_speaks_for_itself(serve: Serve) -> None:
    server = serve(SCOPE, "--forwarded-headers", f"forwarded,{ALL}")
    told = 'for=198.51.100.9, for="[2001:db8::1]:4711";proto=https;host=example.org, for=127.0.0.1'
    scope = scope_of(server, ("Forwarded", told), ("X-Forwarded-For", "198.51.100.9"))
    assert (scope["client"], scope["scheme"]) == (("2001:db8::1", 4711), "https")
    assert dict(scope["headers"])[b"host"] == b"example.org"

    # a client tries to hide what the proxy appends, and to bring its own in another way
    hidden = 'for=198.51.100.9;x=", for=198.51.100.7'
    scope = scope_of(server, ("Forwarded", hidden), ("X-Forwarded-For", "198.51.100.9"))
    assert (scope["client"][0], scope["scheme"]) == ("127.0.0.1", "http")
    scope = scope_of(server, ("Forwarded", hidden), ("Forwarded", "for=198.51.100.7"))
    assert scope["client"] == ("198.51.100.7", 0)


def test_it_is_the_same_over_http_2(reader: Server) -> None:
    fields = [("x-forwarded-for", "198.51.100.7"), ("x-forwarded-proto", "https")]
    more = [("x-forwarded-host", "example.org"), ("x-forwarded-prefix", "/api")]
    with Http2(reader) as client:
        reply = client.read(client.start("/c", fields=[*fields, *more]))
    scope = ast.literal_eval(reply.body.decode())
    assert (scope["client"], scope["scheme"]) == (("198.51.100.7", 0), "https")
    assert dict(scope["headers"])[b"host"] == b"example.org"
    assert scope["path"] == "/api/c"


def test_a_websocket_is_wss_to_its_client(serve: Serve) -> None:
    server = serve(BEHIND)
    with open_client(server, "/talk", additional_headers=dict([FOR, SECURE])) as websocket:
        told = json.loads(websocket.recv())
    assert told["client"] == ["198.51.100.7", 0]
    assert told["url"].startswith("wss://")
    server.wait_for_access_line(r'198\.51\.100\.7:0 - "WebSocket /talk" \[accepted\]')


def test_over_tls_the_proxy_has_the_last_word(serve: Serve, tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("localhost").write(tmp_path)
    server = serve(SCOPE, "--ssl-certfile", certificate, "--ssl-keyfile", key)
    with httpx.Client(verify=authority.client(), trust_env=False, timeout=30) as client:
        url = f"https://127.0.0.1:{server.port}/"
        plain = client.get(url).text
        told = client.get(url, headers=[FOR, ("X-Forwarded-Proto", "http")]).text
    scope = ast.literal_eval(plain)
    assert (scope["client"][0], scope["scheme"]) == ("127.0.0.1", "https")
    scope = ast.literal_eval(told)
    assert (scope["client"], scope["scheme"]) == (("198.51.100.7", 0), "http")


def test_the_access_log_has_the_client(serve: Serve) -> None:
    server = serve(SCOPE)
    scope_of(server, FOR, target="/over-1")
    server.wait_for_access_line(r'^INFO: +198\.51\.100\.7:0 - "GET /over-1 HTTP/1\.1" 200 OK$')
    with Http2(server) as client:
        client.read(client.start("/over-2", fields=[("x-forwarded-for", "2001:db8::1")]))
    server.wait_for_access_line(r'2001:db8::1:0 - "GET /over-2 HTTP/2" 200 OK$')


def test_a_client_that_came_encrypted_is_not_redirected(serve: Serve, tmp_path: Path) -> None:
    certificate, key = Authority().issue("localhost").write(tmp_path)
    binds = ["--bind", "https://127.0.0.1:0", "--bind", "http://127.0.0.1:0"]
    flags = ["--ssl-certfile", certificate, "--ssl-keyfile", key, *binds, "--redirect-https"]
    server = serve(SCOPE, *flags)
    plain = server.addresses[1]
    assert isinstance(plain, tuple)

    def ask(*fields: tuple[str, str]) -> tuple[int, str | None]:
        with contextlib.closing(http.client.HTTPConnection(*plain, timeout=20)) as connection:
            connection.request("GET", "/a", headers={"host": "example.org"} | dict(fields))
            response = connection.getresponse()
            return response.status, response.getheader("location")

    assert ask(SECURE) == (200, None)
    assert ask(("X-Forwarded-Proto", "http")) == (301, "https://example.org/a")
    assert ask() == (301, "https://example.org/a")
    with httpx.Client(http1=False, http2=True, trust_env=False) as client:
        url = f"http://127.0.0.1:{plain[1]}/a"
        assert client.get(url, headers=[SECURE]).status_code == 200
        assert client.get(url).status_code == 301


def test_starlette_makes_the_right_links(serve: Serve) -> None:
    server = serve(BEHIND, "--forwarded-headers", ALL)
    fields = [FOR, SECURE, ("X-Forwarded-Host", "example.org"), ("X-Forwarded-Prefix", "/api")]
    for path in ("/about", "/sub/about"):
        with httpx.Client(trust_env=False, timeout=20) as client:
            told: dict[str, Any] = client.get(f"{server.base_url}{path}", headers=fields).json()
        assert told["client"] == ["198.51.100.7", 0]
        assert told["url"] == f"https://example.org/api{path}"
    assert told["link"] == "https://example.org/api/about"


def test_a_bad_list_is_a_mistake_at_the_start(serve: Serve) -> None:
    server = serve(SCOPE, "--forwarded-allow-ips", "10.0.0.0/33", ready=False)
    assert server.wait() == 2
    assert "--forwarded-allow-ips" in server.stderr()


def test_bytes_that_are_no_text_are_ignored(server: Server) -> None:
    with Wire(server.address) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: \xff\xfe, 1\r\n\r\n")
        response = wire.read_response()
    assert response.status == 200
    assert ast.literal_eval(response.body.decode())["client"][0] == "127.0.0.1"
