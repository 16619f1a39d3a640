"""New certificates while the server runs, and sessions that outlive connections and workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import threading
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.certificates import Authority, Issued, replace
from tests.support.server import Server
from tests.support.waiting import eventually, settled
from tests.tls.conftest import Connect

ECHO = "tests.apps.echo:app"
# The files are looked at every 2 s; the rest is for a machine that has other things to do.
SOON = 30.0


def shown(server: Server, connect: Connect) -> str:
    with contextlib.closing(connect(server)) as connection:
        der = connection.sock.getpeercert(binary_form=True)
        assert der is not None
        return ssl.DER_cert_to_PEM_cert(der)


def wait_for(server: Server, connect: Connect, issued: Issued) -> None:
    """Wait until every worker shows a certificate: many connections reach all of them."""
    eventually(
        lambda: all(shown(server, connect) == issued.pem for _ in range(8)),
        "the new certificate",
        SOON,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_new_files_are_used_and_open_connections_stay(
    serve: Serve,
    connect: Connect,
    authority: Authority,
    certificate: list[str],
    tmp_path: Path,
    workers: int,
) -> None:
    server = serve(ECHO, *certificate, workers=workers)
    with contextlib.closing(connect(server)) as before:
        before.ask()
        new = authority.issue("localhost")
        new.write(tmp_path)
        wait_for(server, connect, new)
        before.ask()
    assert "cannot be reloaded" not in server.stderr()
    assert len(server.worker_pids()) == workers


def test_a_swapped_directory_is_noticed(
    serve: Serve, connect: Connect, authority: Authority, tmp_path: Path
) -> None:
    # Kubernetes: tls.crt -> ..data/tls.crt, ..data -> ..2026_01, replaced as a whole.
    old, new = authority.issue("localhost"), authority.issue("localhost")
    for name, issued in [("..2026_01", old), ("..2026_02", new)]:
        (tmp_path / name).mkdir()
        issued.write(tmp_path / name, "tls")
    (tmp_path / "..data").symlink_to("..2026_01")
    for name in ["tls.crt", "tls.key"]:
        (tmp_path / name).symlink_to(f"..data/{name}")
    paths = [str(tmp_path / "tls.crt"), "--ssl-keyfile", str(tmp_path / "tls.key")]
    server = serve(ECHO, "--ssl-certfile", *paths)
    assert shown(server, connect) == old.pem
    (tmp_path / "..data_tmp").symlink_to("..2026_02")
    os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
    wait_for(server, connect, new)


def test_a_bad_file_changes_nothing_and_is_logged_once(
    serve: Serve, connect: Connect, authority: Authority, certificate: list[str], tmp_path: Path
) -> None:
    server = serve(ECHO, *certificate, workers=2)
    old = shown(server, connect)
    replace(tmp_path / "server.crt", "nonsense")
    server.wait_for_log("cannot be reloaded, the last ones stay in use", deadline=SOON)
    assert shown(server, connect) == old
    # A worker that starts now has what worked last.
    first = server.worker_pids()[0]
    os.kill(first, signal.SIGKILL)
    server.wait_for_workers(2, without=first)
    assert all(shown(server, connect) == old for _ in range(8))
    # The files are looked at several times more.
    assert settled(lambda: server.stderr().count("cannot be reloaded"), 5.0, SOON) == 1
    new = authority.issue("localhost")
    new.write(tmp_path)
    wait_for(server, connect, new)


def test_a_half_written_pair_is_waited_for(
    serve: Serve, connect: Connect, authority: Authority, certificate: list[str], tmp_path: Path
) -> None:
    server = serve(ECHO, *certificate)
    old = shown(server, connect)
    new = authority.issue("localhost")
    replace(tmp_path / "server.crt", new.pem)
    # The mistake is logged when it is seen twice: the first look has found the half.
    server.wait_for_log("do not belong together", deadline=SOON)
    assert shown(server, connect) == old
    replace(tmp_path / "server.key", new.key_pem())
    wait_for(server, connect, new)


def test_no_request_fails_while_certificates_change(
    serve: Serve, connect: Connect, authority: Authority, certificate: list[str], tmp_path: Path
) -> None:
    server = serve(ECHO, *certificate, workers=2)
    failures: list[BaseException] = []
    answered = 0
    done = threading.Event()

    def work(keeps: bool) -> None:
        nonlocal answered
        try:
            connection = connect(server)
            while not done.is_set():
                connection.ask("/", "POST", b"x" * 100)
                answered += 1
                if not keeps:
                    connection.close()
                    connection = connect(server)
            connection.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(keeps,)) for keeps in [True, False]]
    for thread in threads:
        thread.start()
    for _ in range(2):
        since = server.mark()
        authority.issue("localhost").write(tmp_path)
        server.wait_for_log("certificates are reloaded", since, SOON)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert answered > 10


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_by_any_worker_and_its_replacement(
    serve: Serve,
    authority: Authority,
    certificate: list[str],
    version: ssl.TLSVersion,
) -> None:
    server = serve(ECHO, *certificate, workers=2)
    context = authority.client()
    context.minimum_version = context.maximum_version = version
    session = resumed(server, context, None)
    for pid in server.worker_pids():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(server.worker_pids()) == 2, "two new workers", SOON)
    eventually(lambda: server.stderr().count("startup complete") >= 4, "their start", SOON)
    for _ in range(8):
        resumed(server, context, session)


def resumed(
    server: Server, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> ssl.SSLSession:
    """Shake hands with or without a session, which must or must not be resumed; return the next."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as plain:
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            assert client.session_reused == (session is not None)
            assert client.session is not None
            return client.session
