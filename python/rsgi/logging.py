"""Formatters for a configuration of Python's `logging`: lines as the server itself writes them.

They are to `rsgi.error` and `rsgi.access` what those of `uvicorn.logging` are to uvicorn's loggers,
and take the same arguments.
"""

from __future__ import annotations

import http
import logging
import sys
from copy import copy
from typing import Any, Literal

__all__ = ["TRACE", "AccessFormatter", "ColourizedFormatter", "DefaultFormatter"]

#: The level below `DEBUG`, on which every message between server and application is logged.
TRACE = 5

#: Of statuses that no response has: nginx's for a client that left before there was one.
_PHRASES = {499: "Client Closed Request"}

_LEVEL_COLOURS = {
    TRACE: "34",
    logging.DEBUG: "36",
    logging.INFO: "32",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "91",
}


class ColourizedFormatter(logging.Formatter):
    """A formatter whose format may have `%(levelprefix)s`: the level and a colon in ten columns.

    `use_colors` decides about colours; without it, a terminal as standard output does.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        use_colors: bool | None = None,
    ) -> None:
        super().__init__(fmt=fmt, datefmt=datefmt, style=style)
        self.use_colors = self.is_terminal() if use_colors is None else use_colors

    def is_terminal(self) -> bool:
        """Return whether colours make sense where nobody has decided."""
        return sys.stdout.isatty()

    def paint(self, text: str, colour: str) -> str:
        """Return `text` in a colour, where there are any."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.use_colors else text

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Fill in the format."""
        record = copy(record)
        name = record.levelname
        painted = self.paint(name, _LEVEL_COLOURS.get(record.levelno, "0"))
        record.__dict__["levelprefix"] = f"{painted}:{' ' * (9 - len(name))}"
        self.add_fields(record)
        return super().formatMessage(record)

    def add_fields(self, record: logging.LogRecord) -> None:
        """Add what else the format may name."""


class DefaultFormatter(ColourizedFormatter):
    """The formatter for `rsgi.error`."""

    def is_terminal(self) -> bool:
        """Return whether standard error is one: that is where these lines go."""
        return sys.stderr.isatty()


class AccessFormatter(ColourizedFormatter):
    """The formatter for `rsgi.access`.

    The format may have `%(client_addr)s`, `%(request_line)s` and `%(status_code)s` (with its
    phrase), and the record's own `%(duration).6f`, `%(bytes)d`, `%(request_id)s` and
    `%(traceparent)s`.
    """

    def add_fields(self, record: logging.LogRecord) -> None:
        """Add the request's parts."""
        arguments: Any = record.args
        client, method, full_path, http_version, status = arguments
        version = f" HTTP/{http_version}" if http_version else ""
        request_line = self.paint(f"{method} {full_path}{version}", "1")
        record.__dict__.update(
            client_addr=client,
            method=method,
            full_path=full_path,
            http_version=http_version,
            request_line=request_line,
            status_code=self._status(int(status), is_websocket=method == "WebSocket"),
        )

    def _status(self, status: int, *, is_websocket: bool) -> str:
        colour = {1: "32", 2: "32", 3: "33"}.get(status // 100, "31")
        if is_websocket:
            return self.paint("[accepted]" if status == 101 else str(status), colour)
        try:
            text = f"{status} {_PHRASES.get(status) or http.HTTPStatus(status).phrase}"
        except ValueError:
            text = str(status)
        return self.paint(text, colour)
