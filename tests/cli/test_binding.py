"""Where the server listens."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.flavour import rsgi_only, varies_on_uvicorn
from tests.support.server import Server
from tests.support.wire import Address, Wire

APP = "tests.apps.echo:app"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def status_at(address: Address) -> int:
    with Wire(address) as wire:
        return wire.get("/").status


def test_port_0_is_a_free_port_that_is_announced(serve: Serve) -> None:
    server = serve(APP, "--port", "0")
    assert server.port != 0
    assert status_at(server.address) == 200


def test_the_port_asked_for_is_used(serve: Serve) -> None:
    port = free_port()
    assert serve(APP, "--port", str(port)).port == port


def test_a_host_name_is_resolved(serve: Serve) -> None:
    server = serve(APP, "--host", "localhost", "--port", "0")
    assert status_at(("localhost", server.port)) == 200


def test_all_interfaces_include_loopback(serve: Serve) -> None:
    server = serve(APP, "--host", "0.0.0.0", "--port", "0")
    assert status_at(("127.0.0.1", server.port)) == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_ipv6_address_is_served(serve: Serve) -> None:
    server = serve(APP, "--host", "::1", "--port", "0")
    assert status_at(("::1", server.port)) == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_a_unix_socket_is_served(serve: Serve, tmp_path: Path, workers: int) -> None:
    server = serve(APP, "--uds", str(tmp_path / "s"), workers=workers)
    assert status_at(str(tmp_path / "s")) == 200
    assert server.get("/").status_code == 200


def test_a_unix_socket_is_open_to_all_by_default(serve: Serve, tmp_path: Path) -> None:
    serve(APP, "--uds", str(tmp_path / "s"))
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o666


def test_unix_socket_permissions_can_be_set(serve: Serve, tmp_path: Path) -> None:
    serve(APP, "--uds", str(tmp_path / "s"), "--uds-permissions", "600")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600


@varies_on_uvicorn("leaves it to asyncio, which removes it since Python 3.13")
def test_a_unix_socket_is_removed_at_the_end(serve: Serve, tmp_path: Path) -> None:
    server = serve(APP, "--uds", str(tmp_path / "s"))
    server.stop()
    assert not (tmp_path / "s").exists()


def test_a_stale_unix_socket_is_replaced(serve: Serve, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "s"))
    assert serve(APP, "--uds", str(tmp_path / "s")).get("/").status_code == 200


@rsgi_only("takes the socket away from the other server")
def test_a_unix_socket_in_use_is_refused(serve: Serve, tmp_path: Path) -> None:
    first = serve(APP, "--uds", str(tmp_path / "s"))
    second = serve(APP, "--uds", str(tmp_path / "s"), ready=False)
    assert second.wait(deadline=20) == 3
    assert first.get("/").status_code == 200


def passed_fd(serve: Serve, listener: socket.socket, *flags: str) -> Server:
    listener.set_inheritable(True)
    return serve(APP, *flags, pass_fds=(listener.fileno(),), bind=False)


@rsgi_only("opens every fd as a unix socket")
@pytest.mark.parametrize("flag", ["--fd", "--bind"])
def test_an_inherited_tcp_socket_is_served(serve: Serve, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        passed_fd(serve, listener, flag, f"fd://{number}" if flag == "--bind" else str(number))
        assert status_at(listener.getsockname()) == 200


def test_an_inherited_unix_socket_is_served(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        passed_fd(serve, listener, "--fd", str(listener.fileno()))
        assert status_at(path) == 200


def test_bind_takes_host_and_port(serve: Serve) -> None:
    server = serve(APP, "--bind", "127.0.0.1:0")
    assert status_at(server.address) == 200


def test_bind_twice_serves_both(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    server = serve(APP, "--bind", "127.0.0.1:0", "--bind", f"unix:{path}")
    assert [status_at(("127.0.0.1", server.port)), status_at(path)] == [200, 200]


def test_bind_twice_serves_both_in_every_worker(serve: Serve) -> None:
    server = serve(APP, "-b", "127.0.0.1:0", "-b", "127.0.0.1:0", workers=2)
    assert len(server.addresses) == 2
    assert [status_at(address) for address in server.addresses] == [200, 200]


def test_bind_excludes_port(serve: Serve) -> None:
    server = serve(APP, "--bind", "127.0.0.1:0", "--port", "8000", ready=False)
    assert server.wait(deadline=20) == 2


def test_a_new_server_can_take_the_port_at_once(serve: Serve) -> None:
    """Connections in TIME_WAIT must not keep the address (SO_REUSEADDR)."""
    first = serve(APP)
    with first.connect() as wire:
        wire.get("/")
        first.stop()
    port = first.port
    assert serve(APP, "--port", str(port)).get("/").status_code == 200


def test_the_listener_is_closed_at_the_end(serve: Serve) -> None:
    server = serve(APP)
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        server.connect()
