"""A redis of the benchmark's own, on a Unix socket that nobody else knows."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator


@contextlib.contextmanager
def running(core: int) -> Iterator[str | None]:
    """Run a redis server on the load's core; yield its address, or nothing when there is none."""
    if shutil.which("redis-server") is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "redis.sock")
        process = subprocess.Popen(
            [
                *("taskset", "-c", str(core), "redis-server", "--port", "0"),
                *("--unixsocket", path, "--save", "", "--dir", directory),
            ],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _fill(path, process)
            yield f"unix://{path}"
        finally:
            process.terminate()
            process.wait(10)


def _fill(path: str, process: subprocess.Popen[bytes]) -> None:
    command = b"*3\r\n$3\r\nSET\r\n$8\r\ngreeting\r\n$12\r\nHello world!\r\n"
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(path)
            client.sendall(command)
            if client.recv(64).startswith(b"+OK"):
                return
        time.sleep(0.02)
    raise RuntimeError("redis-server did not start")
