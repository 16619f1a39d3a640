"""`--log-level trace`: every message between server and application, as uvicorn logs it."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from rsgi._native import trace

_Message = MutableMapping[str, Any]
_Application = Callable[..., Awaitable[Any]]

#: What may be long, or secret; its length is logged.
_CONTENT = ("body", "bytes", "text")


class TracedApplication:
    """An application that says what it is called with, what it receives, and what it sends."""

    def __init__(self, application: _Application) -> None:
        self._application = application
        self._numbers = itertools.count(1)

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> Any:
        """Serve one scope."""
        client = scope.get("client")
        prefix = f"{client[0]}:{client[1]} - ASGI" if client else "ASGI"
        prefix = f"{prefix} [{next(self._numbers)}]"

        async def traced_receive() -> _Message:
            message = await receive()
            trace(f"{prefix} Receive {_shown(message)}")
            return message

        async def traced_send(message: _Message) -> None:
            trace(f"{prefix} Send {_shown(message)}")
            await send(message)

        shown = {name: value for name, value in scope.items() if name not in ("state", "app")}
        trace(f"{prefix} Started scope={shown!r}")
        try:
            result = await self._application(scope, traced_receive, traced_send)
        except BaseException as error:
            trace(f"{prefix} Raised exception {type(error).__name__}")
            raise
        trace(f"{prefix} Completed")
        return result


def _shown(message: Any) -> str:
    if not isinstance(message, Mapping):
        return repr(message)
    shown = dict(message)
    for name in _CONTENT:
        content = shown.get(name)
        if content is not None and hasattr(content, "__len__"):
            shown[name] = f"<{len(content)} bytes>" if name != "text" else f"<{len(content)} chars>"
    return repr(shown)
