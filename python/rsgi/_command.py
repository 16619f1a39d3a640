"""The command lines that start what the command needs: this interpreter, with its own options."""

from __future__ import annotations

import sys

#: Less to import than `-m` has: runpy and what it needs stay out of every worker's memory.
WORKER = "import sys; from rsgi._worker import main; sys.exit(main())"

READER = "import sys; from rsgi._settings_file import main; sys.exit(main())"


def worker_command() -> list[str]:
    """Return program and arguments of a worker process."""
    return _command(WORKER)


def reader_command() -> list[str]:
    """Return program and arguments of the process that reads a Python file of settings."""
    return _command(READER)


def _command(program: str) -> list[str]:
    # -P: the current directory gets on the path with the application's directory, and not before
    # rsgi's own imports.
    return [sys.executable, *_interpreter_options(), "-P", "-c", program]


def _interpreter_options() -> list[str]:
    """Return the options this interpreter was started with, as `multiprocessing` passes them on."""
    flags = {
        "dont_write_bytecode": "B",
        "no_site": "S",
        "verbose": "v",
        "bytes_warning": "b",
        "quiet": "q",
        "debug": "d",
        "optimize": "O",
    }
    options = []
    for name, letter in flags.items():
        count = int(getattr(sys.flags, name))
        if count > 0:
            options.append("-" + letter * count)
    if sys.flags.isolated:
        options.append("-I")
    else:
        options.extend(["-E"] if sys.flags.ignore_environment else [])
        options.extend(["-s"] if sys.flags.no_user_site else [])
    for warning in sys.warnoptions:
        options.extend(["-W", warning])
    for option, value in sys._xoptions.items():
        options.extend(["-X", option if value is True else f"{option}={value}"])
    return options
