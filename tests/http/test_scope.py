"""The HTTP connection scope, key by key (ASGI HTTP specification 2.5, "HTTP Connection Scope")."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve, Shared
from tests.support.flavour import fails_on_uvicorn
from tests.support.server import Server
from tests.support.wire import Wire

APP = "tests.apps.scope:app"

KEEPS_TRAILING_WHITE_SPACE = fails_on_uvicorn("(httptools) keeps white space after a value")


@pytest.fixture
def server(shared: Shared) -> Server:
    return shared(APP)


def scope_of(wire: Wire, request: bytes) -> dict[str, Any]:
    wire.send(request)
    response = wire.read_response()
    assert response.status == 200, response
    scope = ast.literal_eval(response.body.decode())
    assert isinstance(scope, dict)
    return scope


def scope_for(server: Server, request: bytes) -> dict[str, Any]:
    with server.connect() as wire:
        return scope_of(wire, request)


def scope_at(server: Server, target: str) -> dict[str, Any]:
    return scope_for(server, f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("type", str),
        ("asgi", dict),
        ("http_version", str),
        ("method", str),
        ("scheme", str),
        ("path", str),
        ("raw_path", bytes),
        ("query_string", bytes),
        ("root_path", str),
        ("state", dict),
    ],
)
def test_every_key_has_the_type_of_the_specification(server: Server, name: str, kind: type) -> None:
    assert type(scope_at(server, "/")[name]) is kind


def test_type_is_http(server: Server) -> None:
    assert scope_at(server, "/")["type"] == "http"


@fails_on_uvicorn("reports spec_version 2.3")
def test_asgi_versions_are_3_0_and_2_5(server: Server) -> None:
    assert scope_at(server, "/")["asgi"] == {"version": "3.0", "spec_version": "2.5"}


@fails_on_uvicorn("leaves the key out")
def test_extensions_is_a_dict_of_dicts(server: Server) -> None:
    extensions = scope_at(server, "/")["extensions"]
    assert isinstance(extensions, dict)
    assert all(isinstance(value, dict) for value in extensions.values())


def test_no_key_outside_the_specification_is_there(server: Server) -> None:
    allowed = {
        "type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string",
        "root_path", "headers", "client", "server", "state", "extensions",
    }  # fmt: skip
    assert set(scope_at(server, "/")) <= allowed


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_http_version_is_the_one_of_the_request(server: Server, version: str) -> None:
    scope = scope_for(server, f"GET / HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    assert scope["http_version"] == version


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "PURGE"]
)
def test_method_is_the_one_of_the_request(server: Server, method: str) -> None:
    request = f"{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()
    assert scope_for(server, request)["method"] == method


@fails_on_uvicorn("(httptools) knows a fixed list of methods")
def test_an_unknown_method_reaches_the_application(server: Server) -> None:
    assert scope_for(server, b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n")["method"] == "BREW"


def test_scheme_is_http(server: Server) -> None:
    assert scope_at(server, "/")["scheme"] == "http"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a%20b", "/a b"),
        ("/a+b", "/a+b"),
        ("/caf%C3%A9", "/café"),
        ("/a%2Fb", "/a/b"),
        ("/%25", "/%"),
        ("/%252F", "/%2F"),
        ("//double", "//double"),
        ("/a/../b", "/a/../b"),
        ("/a/./b/", "/a/./b/"),
        ("/%E2%82%AC/%f0%9f%8d%95", "/€/🍕"),
        ("/%ff", "/\ufffd"),
        ("/a?b", "/a"),
        ("/%zz", "/%zz"),
        ("/a;b=c", "/a;b=c"),
    ],
)
def test_path_is_percent_decoded_utf8(server: Server, target: str, path: str) -> None:
    assert scope_at(server, target)["path"] == path


@pytest.mark.parametrize("target", ["/a%2Fb", "/caf%C3%A9", "//x", "/a/../b", "/%7Euser", "/%ff"])
def test_raw_path_is_the_path_as_it_came(server: Server, target: str) -> None:
    assert scope_at(server, target)["raw_path"] == target.encode()


def test_raw_path_does_not_hold_the_query(server: Server) -> None:
    assert scope_at(server, "/a%20b?x=1")["raw_path"] == b"/a%20b"


@pytest.mark.parametrize(
    ("target", "query"),
    [
        ("/", b""),
        ("/?", b""),
        ("/?a=1&b=2", b"a=1&b=2"),
        ("/?a=%20+&a=%C3%A9", b"a=%20+&a=%C3%A9"),
        ("/?a?b", b"a?b"),
        ("/?/path", b"/path"),
    ],
)
def test_query_string_is_the_undecoded_bytes(server: Server, target: str, query: bytes) -> None:
    assert scope_at(server, target)["query_string"] == query


@pytest.mark.parametrize("authority", ["example.com", "example.com:8080", "[::1]:80"])
def test_absolute_form_leaves_only_its_path_and_query(server: Server, authority: str) -> None:
    request = f"GET http://{authority}/a%20b?q HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    scope = scope_for(server, request.encode())
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"q")


def test_options_asterisk_has_an_asterisk_for_path(server: Server) -> None:
    scope = scope_for(server, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("OPTIONS", "*", b"*")


def test_root_path_is_empty_by_default(server: Server) -> None:
    assert scope_at(server, "/")["root_path"] == ""


def test_root_path_flag_is_put_before_path_and_raw_path(shared: Shared) -> None:
    scope = scope_at(shared(APP, "--root-path", "/api"), "/a%20b")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == (
        "/api",
        "/api/a b",
        b"/api/a%20b",
    )


def header_scope(server: Server, lines: bytes) -> list[tuple[bytes, bytes]]:
    headers = scope_for(server, b"GET / HTTP/1.1\r\n" + lines + b"\r\n")["headers"]
    return [(name, value) for name, value in headers]


def test_header_names_are_lower_case_bytes(server: Server) -> None:
    names = [name for name, _ in header_scope(server, b"Host: a\r\nX-MiXeD: Value\r\n")]
    assert names == [b"host", b"x-mixed"]


def test_header_values_keep_their_case(server: Server) -> None:
    assert (b"x-a", b"VaLue") in header_scope(server, b"Host: a\r\nX-A: VaLue\r\n")


def test_header_order_is_kept_with_duplicates_apart(server: Server) -> None:
    lines = b"Host: h\r\nX-A: 1\r\nX-B: 2\r\nx-a: 3\r\nX-C: 4\r\nX-B: 5\r\n"
    assert header_scope(server, lines) == [
        (b"host", b"h"),
        (b"x-a", b"1"),
        (b"x-b", b"2"),
        (b"x-a", b"3"),
        (b"x-c", b"4"),
        (b"x-b", b"5"),
    ]


def test_several_cookie_headers_stay_several(server: Server) -> None:
    lines = b"Host: h\r\nCookie: a=1\r\nX: y\r\nCookie: b=2\r\n"
    cookies = [value for name, value in header_scope(server, lines) if name == b"cookie"]
    assert cookies == [b"a=1", b"b=2"]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"X-A:1", b"1"),
        pytest.param(b"X-A:   1  ", b"1", marks=KEEPS_TRAILING_WHITE_SPACE),
        pytest.param(b"X-A:\t1\t", b"1", marks=KEEPS_TRAILING_WHITE_SPACE),
        (b"X-A: a  b", b"a  b"),
        (b"X-A:", b""),
        (b"X-A: \xe9\xff", b"\xe9\xff"),
        (b"X-A: a:b", b"a:b"),
    ],
)
def test_header_value_is_bytes_without_outer_white_space(
    server: Server, line: bytes, value: bytes
) -> None:
    assert header_scope(server, b"Host: h\r\n" + line + b"\r\n")[1] == (b"x-a", value)


def test_hop_by_hop_headers_reach_the_application(server: Server) -> None:
    headers = header_scope(server, b"Host: h\r\nConnection: keep-alive\r\nTE: trailers\r\n")
    assert headers[1:] == [(b"connection", b"keep-alive"), (b"te", b"trailers")]


def test_each_header_is_a_pair(server: Server) -> None:
    headers = scope_at(server, "/")["headers"]
    assert all(type(pair) in (list, tuple) and len(pair) == 2 for pair in headers)


def test_client_is_the_address_of_the_peer(server: Server) -> None:
    with server.connect() as wire:
        client = scope_of(wire, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")["client"]
        assert tuple(client) == wire.socket.getsockname()


def test_client_port_is_an_int(server: Server) -> None:
    assert type(scope_at(server, "/")["client"][1]) is int


def test_server_is_the_address_of_the_listener(server: Server) -> None:
    assert tuple(scope_at(server, "/")["server"]) == ("127.0.0.1", server.port)


def test_server_port_is_an_int(server: Server) -> None:
    assert type(scope_at(server, "/")["server"][1]) is int


def unix_scope(serve: Serve, directory: Path) -> tuple[dict[str, Any], str]:
    path = str(directory / "s")
    server = serve(APP, "--uds", path)
    return scope_for(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), path


def test_client_of_a_unix_socket_is_none(serve: Serve, tmp_path: Path) -> None:
    assert unix_scope(serve, tmp_path)[0].get("client") is None


def test_server_of_a_unix_socket_is_its_path_and_none(serve: Serve, tmp_path: Path) -> None:
    scope, path = unix_scope(serve, tmp_path)
    assert tuple(scope["server"]) == (path, None)


def test_state_holds_what_the_lifespan_put_there(server: Server) -> None:
    assert scope_at(server, "/")["state"]["number"] == 1


def test_state_is_copied_for_each_request(server: Server) -> None:
    scope_at(server, "/")
    assert "mark" not in scope_at(server, "/")["state"]


def test_state_copy_is_shallow(server: Server) -> None:
    scope_at(server, "/")
    assert "left by a request" in scope_at(server, "/")["state"]["shared"]


def test_scope_does_not_leak_between_requests_of_a_connection(server: Server) -> None:
    with server.connect() as wire:
        scope_of(wire, b"POST /first?q HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n")
        second = scope_of(wire, b"GET /second HTTP/1.1\r\nHost: b\r\n\r\n")
    assert (second["method"], second["path"], second["query_string"], len(second["headers"])) == (
        "GET",
        "/second",
        b"",
        1,
    )


@pytest.mark.parametrize("count", [1, 50, 90])
def test_many_headers_arrive_in_order(server: Server, count: int) -> None:
    lines = b"".join(b"X-%d: %d\r\n" % (index, index) for index in range(count))
    expected = [(b"x-%d" % index, b"%d" % index) for index in range(count)]
    assert header_scope(server, b"Host: h\r\n" + lines)[1:] == expected


def test_fields_that_come_again_and_fields_that_change(server: Server) -> None:
    fields = [
        {b"User-Agent": b"one", b"Accept": b"*/*", b"X-Own": b"1", b"Cookie": b"a=1"},
        {b"user-agent": b"one", b"Accept": b"*/*", b"x-own": b"1", b"Cookie": b"a=1"},
        {b"User-Agent": b"two", b"ACCEPT": b"*/*", b"X-Own": b"2", b"Cookie": b"a=2"},
        {b"User-Agent": b"one" * 200, b"Accept": b"", b"X-Own": b"1", b"Cookie": b""},
        {b"User-Agent": b"one" * 200, b"Accept": b"\xe9", b"X-Own": b"1", b"Cookie": b"a=1"},
    ]
    with server.connect() as wire:
        for sent in [*fields, *reversed(fields)]:
            lines = b"".join(b"%s: %s\r\n" % field for field in sent.items())
            scope = scope_of(wire, b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
            expected = [(name.lower(), value) for name, value in sent.items()]
            assert scope["headers"] == [(b"host", b"a"), *expected]
