"""Finding the application that `module:attribute` names, and saying why it cannot be found."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

#: What a bare `module` may call its application.
DEFAULT_ATTRIBUTES = ("app", "application")

Application = Callable[..., Any]


class ApplicationError(Exception):
    """The application cannot be loaded; the message says why and what to do."""


def load(target: str, *, factory: bool = False, app_dir: str = "") -> Application:
    """Import and return the ASGI application that `target` names.

    `target` is `module:attribute`, `module` or `module:factory()`. Raises `ApplicationError`.
    """
    name, called, _ = target.partition("()")
    factory = factory or bool(called)
    found = find(name, app_dir=app_dir)
    if factory:
        found = _call_factory(found, target)
    return check(found, target)


def find(target: str, *, app_dir: str = "") -> Any:
    """Import and return what `target` names, whatever it is. Raises `ApplicationError`."""
    add_to_path(app_dir)
    module_name, _, attribute = target.partition(":")
    module = _import(module_name)
    return _attribute(module, module_name, attribute)


def add_to_path(app_dir: str) -> None:
    """Make the modules of the application's directory importable."""
    directory = os.path.abspath(app_dir or os.curdir)
    if directory not in sys.path:
        sys.path.insert(0, directory)


def check(application: Any, name: str) -> Application:
    """Return `application` if it can be an ASGI application, otherwise raise `ApplicationError`."""
    if not callable(application):
        kind = type(application).__name__
        raise ApplicationError(f"`{name}` is not an ASGI application: a `{kind}` cannot be called")
    if _is_wsgi(application):
        raise ApplicationError(
            f"`{name}` is a WSGI application, and rsgi serves ASGI. Wrap it, for example with "
            "`a2wsgi.WSGIMiddleware(app)`"
        )
    if inspect.isclass(application):
        raise ApplicationError(
            f"`{name}` is a class, not an application (an ASGI 2 application, perhaps). Give an "
            "instance of it, or use --factory if calling it makes the application"
        )
    if not _takes(application, 3) and _takes(application, 0):
        raise ApplicationError(
            f"`{name}` takes no arguments, so it is a function that makes the application rather "
            "than the application: use --factory"
        )
    return application  # type: ignore[no-any-return]


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(f"{missing}."):
            raise ApplicationError(describe(f"importing `{name}` failed", error)) from error
        hint = f"looked in `{sys.path[0]}`; --app-dir names another directory"
        if name != missing:
            raise ApplicationError(f"no module `{missing}` (of `{name}`): {hint}") from None
        raise ApplicationError(f"no module `{name}`: {hint}") from None
    except Exception as error:
        raise ApplicationError(describe(f"importing `{name}` failed", error)) from error
    except SystemExit as error:
        raise ApplicationError(f"importing `{name}` ended with sys.exit({error.code!r})") from error


def _attribute(module: Any, module_name: str, attribute: str) -> Any:
    if not attribute:
        for candidate in DEFAULT_ATTRIBUTES:
            if hasattr(module, candidate):
                return getattr(module, candidate)
        names = " or ".join(f"`{candidate}`" for candidate in DEFAULT_ATTRIBUTES)
        raise ApplicationError(
            f"module `{module_name}` has no {names}; "
            f"name the application as `{module_name}:attribute`"
        )
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ApplicationError(
                f"module `{module_name}` has no attribute `{attribute}`{_suggestion(module, part)}"
            ) from None
    return found


def _suggestion(module: Any, name: str) -> str:
    import difflib

    public = [candidate for candidate in vars(module) if not candidate.startswith("_")]
    close = difflib.get_close_matches(name, public, n=1)
    close = close or [candidate for candidate in DEFAULT_ATTRIBUTES if candidate in public]
    return f"; did you mean `{close[0]}`?" if close else ""


def _call_factory(factory: Any, target: str) -> Any:
    if not callable(factory):
        kind = type(factory).__name__
        raise ApplicationError(f"`{target}` is not a factory: a `{kind}` cannot be called")
    try:
        return factory()
    except Exception as error:
        raise ApplicationError(describe(f"the factory `{target}` failed", error)) from error


def describe(what: str, error: BaseException, *ours: str) -> str:
    """Return `what` and the error's traceback, without the frames that led to the user's code.

    These are the importing machinery's, and those of files whose path starts with one of `ours`.
    """
    frames = _users_frames(error.__traceback__, (__file__, importlib.__file__, *ours))
    shown = traceback.TracebackException(type(error), error, frames)
    return f"{what}\n{''.join(shown.format()).rstrip()}"


def _users_frames(frames: TracebackType | None, ours: tuple[str, ...]) -> TracebackType | None:
    while frames is not None:
        filename = frames.tb_frame.f_code.co_filename
        if not filename.startswith(("<frozen importlib", *ours)):
            return frames
        frames = frames.tb_next
    return None


def _is_wsgi(application: Any) -> bool:
    if inspect.isclass(application):
        return False
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
