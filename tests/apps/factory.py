"""An application that must be made first."""

from __future__ import annotations

import contextlib

from tests.apps import echo
from tests.support.asgi import Handler


def create() -> Handler:
    """Make the application."""
    return echo.app


def broken() -> Handler:
    """Fail to make it."""
    raise LookupError("the factory has no parts")


class Instance:
    """An application that is an object with an asynchronous `__call__`."""

    __call__ = staticmethod(echo.app)


instance = Instance()
not_callable = contextlib.nullcontext()
