"""rsgi: an ASGI server in Rust.

One process per worker, one event loop per worker, no thread count.
"""

from __future__ import annotations

import importlib
import os

#: `typing` has it, too, and takes a sixth of the time of `rsgi --help` to import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Read by the allocator of the native half when it is loaded. It would take its first arena at once
#: otherwise, and where the kernel has huge pages that is 4 MB a process before anything is used.
_ARENA = "MIMALLOC_ARENA_EAGER_COMMIT"

if _ARENA in os.environ:
    importlib.import_module("rsgi._native")
else:
    os.environ[_ARENA] = "0"
    importlib.import_module("rsgi._native")
    del os.environ[_ARENA]

if TYPE_CHECKING:
    from rsgi._event_loop import EventLoop, new_event_loop
    from rsgi._native import ClientDisconnected
    from rsgi._run import run
    from rsgi._server import Config, Server, serve

__all__ = ["ClientDisconnected", "Config", "EventLoop", "Server", "new_event_loop", "run", "serve"]

_HOMES = {
    "ClientDisconnected": "rsgi._native",
    "Config": "rsgi._server",
    "EventLoop": "rsgi._event_loop",
    "Server": "rsgi._server",
    "new_event_loop": "rsgi._event_loop",
    "run": "rsgi._run",
    "serve": "rsgi._server",
}


def __getattr__(name: str) -> Any:
    # The command imports this package, too, and has no use for asyncio: `rsgi --help` is quick.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
