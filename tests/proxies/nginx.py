"""A real nginx in front: its own configuration, files and processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.server import Server
from tests.support.waiting import eventually

# Debian keeps it outside the PATH of users.
_BINARY = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
# What `nginx -V` calls dynamic is a file there, if its package is installed.
_STREAM_MODULES = [
    Path("/usr/lib/nginx/modules/ngx_stream_module.so"),
    Path("/usr/lib64/nginx/modules/ngx_stream_module.so"),
]

needs_nginx = pytest.mark.skipif(_BINARY is None, reason="nginx is not installed")


def load_stream_module() -> str:
    """Return the directive that makes `stream` known; skip the test where nothing does."""
    assert _BINARY is not None
    built = subprocess.run([_BINARY, "-V"], capture_output=True, text=True, check=True).stderr
    if "--with-stream " in built:
        return ""
    for module in _STREAM_MODULES:
        if module.exists():
            return f"load_module {module};"
    pytest.skip("nginx has no stream module (Debian: libnginx-mod-stream)")


def upstream_of(server: Server) -> str:
    """Return a server's address in nginx's words."""
    address = server.address
    return f"unix:{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"


class Nginx:
    """One nginx, which ends with the test."""

    def __init__(self, directory: Path, body: str, head: str = "") -> None:
        """Start it with a configuration; `PORT` in it becomes a port that is free."""
        assert _BINARY is not None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._log = directory / "nginx.log"
        places = "\n".join(
            f"{name}_temp_path {directory}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        body = body.replace("PORT", f"127.0.0.1:{self.port}").replace("PLACES", places)
        configuration = directory / "nginx.conf"
        configuration.write_text(
            f"{head}\ndaemon off; worker_processes 1; pid {directory}/nginx.pid;\n"
            f"error_log {self._log} info;\nevents {{}}\n{body}\n"
        )
        # A worker that changes its user cannot read the test's directory.
        user = ["-g", "user root;"] if os.geteuid() == 0 else []
        command = [_BINARY, "-p", str(directory), "-c", str(configuration), *user]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            eventually(self._accepts, "start of nginx")
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """The URL that clients use."""
        return f"http://127.0.0.1:{self.port}"

    def _accepts(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it and its workers."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)
