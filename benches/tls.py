"""Processor time of TLS: a full handshake, and a request on an encrypted connection.

One client asks one worker, so that nothing waits: what counts is the server's processor time,
which a busy machine hardly changes. `python benches/tls.py [rsgi's Python]`
"""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

HANDSHAKES = 600
REQUESTS = 8000
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
APPS = Path(__file__).parent / "apps"


def certificate(kind: str, directory: str) -> tuple[str, str]:
    """Write a certificate for localhost; return its path and its key's."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    key = (
        rsa.generate_private_key(65537, 2048)
        if kind == "rsa"
        else ec.generate_private_key(ec.SECP256R1())
    )
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    issued = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = Path(directory, f"{kind}.crt"), Path(directory, f"{kind}.key")
    paths[0].write_bytes(issued.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return str(paths[0]), str(paths[1])


def commands(rsgi: str, certificate: tuple[str, str], port: int) -> dict[str, list[str]]:
    """Return how each server is started with this certificate."""
    path, key = certificate
    files = ["--ssl-keyfile", key, "--port", str(port)]
    plain = ["bare:app", "--no-access-log", "--lifespan", "off", "--ssl-certfile", path]
    granian = ["bare:app", "--interface", "asginl", "--no-access-log", "--ssl-certificate", path]
    return {
        "rsgi": [rsgi, "-m", "rsgi", *plain, *files],
        "uvicorn": [sys.executable, "-m", "uvicorn", *plain, *files],
        "granian": [sys.executable, "-m", "granian", *granian, *files],
    }


class Subject:
    """A running server and its processor time."""

    def __init__(self, command: list[str], port: int) -> None:
        """Start it and wait until it listens."""
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, cwd=APPS, stdout=quiet, stderr=quiet)
        self._port = port
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        for _ in range(200):
            with contextlib.suppress(OSError):
                self.connect().close()
                return
            time.sleep(0.1)
        raise RuntimeError(f"it does not start: {command}")

    def connect(self) -> ssl.SSLSocket:
        """Shake hands."""
        return self._context.wrap_socket(socket.create_connection(("127.0.0.1", self._port), 5))

    def processor_seconds(self) -> float:
        """Return the time that all of its processes have used."""
        main = psutil.Process(self._process.pid)
        times = [process.cpu_times() for process in [main, *main.children(recursive=True)]]
        return sum(used.user + used.system for used in times)

    def end(self) -> None:
        """End it at once."""
        processes = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def measure(subject: Subject) -> tuple[float, float]:
    """Return microseconds of processor time per handshake and per request."""

    def shake(count: int) -> None:
        for _ in range(count):
            subject.connect().close()

    def ask(connection: ssl.SSLSocket, count: int) -> None:
        for _ in range(count):
            connection.sendall(REQUEST)
            while not connection.recv(65536).endswith(b"!"):
                pass

    shake(50)
    before = subject.processor_seconds()
    shake(HANDSHAKES)
    time.sleep(0.2)
    handshake = (subject.processor_seconds() - before) / HANDSHAKES
    with subject.connect() as connection:
        ask(connection, 500)
        before = subject.processor_seconds()
        ask(connection, REQUESTS)
        request = (subject.processor_seconds() - before) / REQUESTS
    return handshake * 1e6, request * 1e6


def main() -> None:
    """Measure every server with both kinds of certificate; print a table."""
    rsgi = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    print("| certificate | server | handshake, us | request, us |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        for kind in ["ecdsa", "rsa"]:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = int(listener.getsockname()[1])
            for name, command in commands(rsgi, certificate(kind, directory), port).items():
                subject = Subject(command, port)
                try:
                    handshake, request = measure(subject)
                finally:
                    subject.end()
                print(f"| {kind} | {name} | {handshake:.0f} | {request:.1f} |", flush=True)


if __name__ == "__main__":
    main()
