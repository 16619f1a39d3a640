"""Reading `gunicorn.conf.py` in a process of its own. Started by the command only.

The file is the user's program: it runs here, so that the supervisor never holds what it imports.
What it sets leaves as one JSON object on standard output.
"""

from __future__ import annotations

import ast
import importlib
import json
import math
import os
import signal
import sys
import traceback
import types
from pathlib import Path
from typing import Any

#: Seconds after which the kernel ends this process: settings must not keep a server from starting
#: or, when they are read again, from running.
TIME_LIMIT = 30


def main() -> int:
    """Read the file that the last argument names and write its settings."""
    signal.alarm(TIME_LIMIT)
    # The answer leaves on a descriptor of its own: what the file prints goes to standard error.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        json.dump(_answer(sys.argv[-1]), answer)
    return 0


def _answer(name: str) -> dict[str, Any]:
    sys.path.insert(0, str(Path.cwd()))
    try:
        if name.startswith("python:"):
            module = importlib.import_module(name.removeprefix("python:"))
            file = getattr(module, "__file__", None)
            lines = _lines(Path(file).read_bytes()) if file else {}
            variables = vars(module)
        else:
            source = Path(name).read_bytes()
            variables = _run(source, str(Path(name).absolute()), name)
            lines = _lines(source)
    except OSError as error:
        # Also one that the program raised; its traceback says which.
        failure = f"cannot be read: {error.strerror}" if error.filename == name else _told(error)
        return {"error": failure}
    except BaseException as error:
        return {"error": _told(error)}
    return {
        "settings": {
            key: (_plain(value), lines.get(key))
            for key, value in variables.items()
            if not key.startswith("_") and not isinstance(value, types.ModuleType)
        }
    }


def _run(source: bytes, path: str, shown: str) -> dict[str, Any]:
    module = types.ModuleType("__config__")
    module.__file__ = path
    sys.modules["__config__"] = module
    # The user names the file on the command line: it is theirs to run, as with gunicorn.
    exec(compile(source, shown, "exec"), vars(module))  # noqa: S102
    return vars(module)


def _lines(source: bytes) -> dict[str, int]:
    """Return the line in which each variable of the module is set last."""
    lines: dict[str, int] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            lines[node.id] = max(lines.get(node.id, 0), node.lineno)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            lines[node.name] = max(lines.get(node.name, 0), node.lineno)
    return lines


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value: itself, or its type."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [str(item) for item in value]
    return {"type": type(value).__name__}


def _told(error: BaseException) -> str:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    shown = traceback.TracebackException(type(error), error, frames)
    return f"reading it failed\n{''.join(shown.format()).rstrip()}"
