"""Python's `logging` as the server's: configuring it, and passing records to it.

Handlers are somebody else's code, and may be slow: they run on a thread of their own.
"""

from __future__ import annotations

import json
import logging
import logging.config
import os
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from copy import deepcopy
from importlib.util import find_spec
from typing import Any, Protocol

from rsgi.logging import TRACE

#: Our loggers, and those that a configuration made for uvicorn names.
OURS = ("rsgi.error", "rsgi.access")
UVICORNS = ("uvicorn.error", "uvicorn.access")

_ACCESS = '%s - "%s %s HTTP/%s" %d'
_WEBSOCKET_ACCEPTED = '%s - "%s %s"%.0s [accepted]%.0s'
_WEBSOCKET_REFUSED = '%s - "%s %s"%.0s %d'


class LoggingError(Exception):
    """The configuration cannot be used; the message says why and what to do."""


class Configured(Protocol):
    """A worker, or the template of one."""

    @property
    def logging(self) -> tuple[str, str] | None:
        """The form of the configuration, and its text or file."""


class Queue(Protocol):
    """Where records come from."""

    def take(self) -> tuple[list[dict[str, Any]], int] | None:
        """Wait for records, and how many were lost before them."""

    @staticmethod
    def set_level(level: int) -> None:
        """Let everything from this level on come."""


def configure(worker: Configured, given: Any = None) -> None:
    """Configure Python's `logging` as a worker's settings say, or by `given` in place of a text.

    Raises `LoggingError`.
    """
    if worker.logging is not None:
        _configure(*worker.logging, given)


def configure_supervisor(
    form: str, text: str, queue: Queue, level: int, use_colors: bool | None
) -> tuple[bool, str | None]:
    """Configure Python's `logging` in the supervisor, and pass the queue's records to it.

    Return whether that is done, and otherwise the module that is missing: a configuration may name
    the application's code, which must not run there. What else is wrong with it the workers say.
    """
    path = list(sys.path)
    try:
        sys.path[:] = [directory for directory in path if directory not in ("", _here())]
        _configure(form, text)
    except LoggingError as error:
        return False, _missing_module(error)
    finally:
        sys.path[:] = path
    deliver(queue, level, use_colors, says_so=False)  # the workers do
    return True, None


def _here() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return None


def _missing_module(error: BaseException) -> str | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ImportError):
            return cause.name or str(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _configure(form: str, text: str, given: Any = None) -> None:
    logging.addLevelName(TRACE, "TRACE")
    try:
        if given is not None:
            _apply(given)
        elif form == "json":
            _apply(json.loads(text))
        elif form == "file":
            _apply_file(text)
    except LoggingError:
        raise
    except Exception as error:
        reason = "".join(traceback.format_exception_only(error)).strip()
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        shown = f": `{text}`" if form == "file" else ""
        raise LoggingError(f"--log-config: {reason}{cause}{shown}") from error


def _apply_file(path: str) -> None:
    extension = os.path.splitext(path)[1].lower()
    with open(path, "rb") as file:
        content = file.read()
    if extension == ".json" or (extension not in _READERS and content.lstrip()[:1] == b"{"):
        _apply(json.loads(content))
    elif extension in _READERS:
        _apply(_READERS[extension](content, path))
    else:
        logging.config.fileConfig(path, disable_existing_loggers=False)


def _read_yaml(content: bytes, path: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise LoggingError(
            f"--log-config: reading YAML needs PyYAML (`pip install pyyaml`): `{path}`"
        ) from None
    return yaml.safe_load(content)


def _read_toml(content: bytes, _path: str) -> Any:
    import tomllib

    return tomllib.loads(content.decode())


_READERS = {".yaml": _read_yaml, ".yml": _read_yaml, ".toml": _read_toml}


def _apply(config: Any) -> None:
    if not isinstance(config, Mapping):
        if isinstance(config, dict | str | int | float | list | None):
            raise LoggingError("--log-config: expected a mapping, as `logging.config.dictConfig`")
        # A `ConfigParser`, or an open file.
        logging.config.fileConfig(config, disable_existing_loggers=False)
        return
    if hasattr(config, "read_dict"):  # a `ConfigParser` is a mapping, too
        logging.config.fileConfig(config, disable_existing_loggers=False)  # type: ignore[arg-type]
        return
    logging.config.dictConfig(_without_uvicorn(config))


def _without_uvicorn(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with our formatters for uvicorn's, where that is not installed."""
    copied = dict(config)
    if find_spec("uvicorn") is not None or not isinstance(copied.get("formatters"), Mapping):
        return copied
    formatters: dict[str, Any] = {}
    for name, formatter in copied["formatters"].items():
        formatters[name] = dict(formatter)
        for key in ("()", "class"):
            made_by = formatters[name].get(key)
            if isinstance(made_by, str) and made_by.startswith("uvicorn.logging."):
                formatters[name][key] = made_by.replace("uvicorn.", "rsgi.", 1)
    copied["formatters"] = formatters
    return copied


def _is_configured(name: str) -> bool:
    logger = logging.root.manager.loggerDict.get(name)
    return isinstance(logger, logging.Logger) and bool(
        logger.handlers or logger.filters or logger.level or not logger.propagate
    )


def _configure_by_default(level: int, use_colors: bool | None) -> None:
    """Write what the server would, where nobody has said where records go."""
    logging.config.dictConfig(default_config(level, use_colors))


def default_config(level: int = logging.INFO, use_colors: bool | None = None) -> dict[str, Any]:
    """Return what is configured where nobody else has configured anything."""
    formatter = {"fmt": "%(levelprefix)s%(message)s", "use_colors": use_colors}
    access = (
        '%(levelprefix)s%(client_addr)s - "%(request_line)s" %(status_code)s '
        "%(duration_ms).3fms %(bytes)dB"
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "default": {"()": "rsgi.logging.DefaultFormatter", **formatter},
            "access": {"()": "rsgi.logging.AccessFormatter", **formatter, "fmt": access},
        },
        "handlers": {
            "default": {
                "class": "logging.StreamHandler",
                "formatter": "default",
                "stream": "ext://sys.stderr",
            },
            "access": {
                "class": "logging.StreamHandler",
                "formatter": "access",
                "stream": "ext://sys.stdout",
            },
        },
        "loggers": {
            "rsgi": {"handlers": ["default"], "level": level, "propagate": False},
            "rsgi.access": {"handlers": ["access"], "propagate": False},
        },
    }


def deliver(queue: Queue, level: int, use_colors: bool | None, *, says_so: bool = True) -> None:
    """Pass the queue's records to `logging`, on a thread of their own, until it is closed."""
    ours = any(_is_configured(name) for name in ("rsgi", *OURS))
    uvicorns = not ours and any(_is_configured(name) for name in ("uvicorn", *UVICORNS))
    if not (ours or uvicorns or logging.root.handlers):
        _configure_by_default(level, use_colors)
    loggers = [logging.getLogger(name) for name in (UVICORNS if uvicorns else OURS)]
    if level != logging.INFO:  # asked for, and so it wins
        for logger in loggers:
            logger.setLevel(level)
    queue.set_level(min(logger.getEffectiveLevel() for logger in loggers))
    delivery = _Delivery(queue, *loggers)
    thread = threading.Thread(target=delivery.run, name="rsgi-log", daemon=True)
    thread.start()
    if uvicorns and says_so:
        delivery.notice("logging is configured for uvicorn.error and uvicorn.access: they are used")


class _Delivery:
    def __init__(self, queue: Queue, error: logging.Logger, access: logging.Logger) -> None:
        self._queue = queue
        self._error = error
        self._access = access

    def run(self) -> None:
        """Pass on what comes, until there will be no more."""
        while (taken := self._queue.take()) is not None:
            records, lost = taken
            for record in records:
                try:
                    self._pass_on(record)
                except Exception:
                    # A filter's or a handler's own; `logging` shows what happens in `emit` itself.
                    if logging.raiseExceptions and sys.stderr is not None:
                        traceback.print_exc(file=sys.stderr)
            if lost:
                self.notice(f"{lost} records were lost, the handlers do not keep up")

    def notice(self, message: str) -> None:
        """Log something about the log."""
        level = logging.WARNING if "lost" in message else logging.INFO
        self._server({"created": time.time(), "level": level, "message": message})

    def _pass_on(self, record: dict[str, Any]) -> None:
        if "client" in record:
            self._request(record)
        else:
            self._server(record)

    def _server(self, given: dict[str, Any]) -> None:
        level = given["level"]
        if not self._error.isEnabledFor(level):
            return
        exception = given.get("exception")
        exc_info = (type(exception), exception, exception.__traceback__) if exception else None
        record = self._error.makeRecord(
            self._error.name, level, "(rsgi)", 0, "%s", (given["message"],), exc_info
        )
        record.exc_text = given.get("traceback")
        record.__dict__["request_id"] = given.get("request_id")
        _set_time(record, given["created"])
        self._error.handle(record)

    def _request(self, given: dict[str, Any]) -> None:
        if not self._access.isEnabledFor(logging.INFO):
            return
        is_websocket, status = given["is_websocket"], given["status"]
        method = "WebSocket" if is_websocket else given["method"]
        version = "" if is_websocket else given["http_version"]
        message = _ACCESS
        if is_websocket:
            message = _WEBSOCKET_ACCEPTED if status == 101 else _WEBSOCKET_REFUSED
        arguments = (given["client"], method, given["full_path"], version, status)
        record = self._access.makeRecord(
            self._access.name, logging.INFO, "(rsgi)", 0, message, arguments, None
        )
        record.__dict__.update(
            duration=given["duration"],
            duration_ms=given["duration"] * 1000,
            bytes=given["bytes"],
            request_id=given["request_id"],
            traceparent=given["traceparent"],
        )
        _set_time(record, given["created"])
        self._access.handle(record)


def _set_time(record: logging.LogRecord, created: float) -> None:
    """Give a record the time when it was made, which is not when its turn came."""
    record.relativeCreated += (created - record.created) * 1000
    record.created = created
    record.msecs = int((created - int(created)) * 1000) + 0.0


def require_passable(settings: Mapping[str, Any]) -> None:
    """Check that other processes can be given the settings.

    Raises `TypeError` for a configuration of `logging` that is made of objects.
    """
    config = settings.get("log_config")
    if config is None or isinstance(config, str | os.PathLike):
        return
    try:
        json.dumps(config)
    except TypeError as error:
        raise TypeError(
            f"several workers need a log_config of plain values, or a file: {error}"
        ) from None


def objects(settings: Mapping[str, Any]) -> Any:
    """Return a configuration that was given as an object, which only this process has."""
    config = settings.get("log_config")
    return None if isinstance(config, str | os.PathLike) else deepcopy_of_plain(config)


def deepcopy_of_plain(config: Any) -> Any:
    """Return a copy where that is possible: `dictConfig` changes what it is given."""
    try:
        return deepcopy(config)
    except Exception:
        return config
