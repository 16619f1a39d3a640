"""What an application speaks (`--interface`), and making ASGI 3 of it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from rsgi._errors import ApplicationError

Application = Callable[..., Any]


def adapt(application: Any, name: str, interface: str = "auto", wsgi_threads: int = 10) -> Any:
    """Return `application` as an ASGI 3 application; `name` is for messages.

    Raises `ApplicationError` if it is none, or speaks something else than `interface` says.
    """
    if not callable(application):
        kind = type(application).__name__
        raise ApplicationError(f"`{name}` is not an application: a `{kind}` cannot be called")
    if interface == "auto":
        interface = _detect(application, name)
    if interface == "asgi2":
        return Asgi2Application(application)
    if interface == "wsgi":
        return _from_wsgi(application, name, wsgi_threads)
    return application


class Asgi2Application:
    """An ASGI 3 application over one that is called twice: with the scope, then with the rest."""

    def __init__(self, application: Application) -> None:
        """Wrap an ASGI 2 application."""
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one scope."""
        scope["asgi"] = {**scope["asgi"], "version": "2.0"}
        instance = self.application(scope)
        await instance(receive, send)


def _detect(application: Any, name: str) -> str:
    """Return the interface that an application looks like it has, or say why it is none."""
    if inspect.isclass(application):
        # `class App: def __init__(self, scope, receive, send); def __await__(self)`
        if hasattr(application, "__await__"):
            return "asgi3"
        # `class App: def __init__(self, scope); async def __call__(self, receive, send)`
        if _takes(application, 1) and _is_async(application):
            return "asgi2"
        raise ApplicationError(
            f"`{name}` is a class, not an application. Give an instance of it, or use --factory if "
            "calling it makes the application"
        )
    if _is_wsgi(application):
        raise ApplicationError(
            f"`{name}` is a WSGI application: use --interface wsgi (and install `rsgi[wsgi]`)"
        )
    if _takes(application, 3):
        return "asgi3"
    if _takes(application, 0):
        raise ApplicationError(
            f"`{name}` takes no arguments, so it is a function that makes the application rather "
            "than the application: use --factory"
        )
    return "asgi2" if _takes(application, 1) and not _is_async(application) else "asgi3"


def _is_wsgi(application: Any) -> bool:
    # Flask, and what else names its WSGI side.
    if callable(getattr(application, "wsgi_app", None)) and not callable(
        getattr(application, "asgi_app", None)
    ):
        return True
    return not _is_async(application) and _takes(application, 2) and not _takes(application, 3)


def _is_async(application: Any) -> bool:
    if inspect.iscoroutinefunction(application):
        return True
    return inspect.iscoroutinefunction(getattr(application, "__call__", None))  # noqa: B004


def _takes(application: Any, count: int) -> bool:
    """Whether `application` takes `count` arguments; True where that cannot be told."""
    try:
        inspect.signature(application).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _from_wsgi(application: Application, name: str, threads: int) -> Any:
    if _is_async(application):
        raise ApplicationError(
            f"`{name}` is not a WSGI application: it is asynchronous; leave --interface wsgi out"
        )
    try:
        importlib.import_module("a2wsgi")
    except ModuleNotFoundError as error:
        if error.name != "a2wsgi":
            raise
        python = os.path.basename(sys.executable or "python")
        raise ApplicationError(
            "--interface wsgi needs the package `a2wsgi`: "
            f"{python} -m pip install 'rsgi[wsgi]' (or a2wsgi)"
        ) from None
    from rsgi._wsgi import WsgiApplication

    return WsgiApplication(application, threads)
