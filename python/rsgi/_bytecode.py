"""Bytecode while code is being worked on: `--reload`."""

from __future__ import annotations

import struct
import time
from importlib.machinery import SourceFileLoader

#: A `.pyc` knows its source by size and modification time in whole seconds. Another second for
#: clocks that differ a little.
RESOLUTION = 2.0

#: Magic number and flags, then the source's modification time (importlib's format, PEP 552).
_HEADER = struct.Struct("<4sII")


def keep_fresh_sources_uncached() -> None:
    """Let no bytecode be written of a source that was saved a moment ago.

    A second save within the same second, of the same size, would leave it valid: the code would
    stay what it was before, for good.
    """
    write = SourceFileLoader.set_data

    def set_data(loader: SourceFileLoader, path: str, data: bytes, *, _mode: int = 0o666) -> None:
        if not _is_of_fresh_source(data):
            write(loader, path, data, _mode=_mode)

    SourceFileLoader.set_data = set_data  # type: ignore[method-assign,assignment]


def _is_of_fresh_source(data: bytes) -> bool:
    if len(data) < _HEADER.size:
        return False
    flags: int
    modified: int
    _magic, flags, modified = _HEADER.unpack_from(data)
    return flags == 0 and time.time() - modified < RESOLUTION
