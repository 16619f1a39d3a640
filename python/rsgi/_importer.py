"""Finding the application that `module:attribute` names, and saying why it cannot be found."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from rsgi._errors import ApplicationError
from rsgi._interface import adapt

__all__ = ["ApplicationError", "describe", "find", "load", "take"]

#: What a bare `module` may call its application.
DEFAULT_ATTRIBUTES = ("app", "application")

Application = Callable[..., Any]


class Source(Protocol):
    """What says which application to load: a worker, or a template."""

    @property
    def target(self) -> str | None:
        """Return `module:attribute`, `module` or `module:factory()`."""

    @property
    def factory(self) -> bool:
        """Return whether the target makes the application."""

    @property
    def app_dir(self) -> str:
        """Return the directory to import from."""

    @property
    def interface(self) -> str:
        """Return what the application speaks."""

    @property
    def wsgi_threads(self) -> int:
        """Return how many calls of a WSGI application may run at once."""


def load(source: Source) -> Application:
    """Import and return the application that `source` names. Raises `ApplicationError`."""
    target = source.target or ""
    name, called, _ = target.partition("()")
    found = find(name, app_dir=source.app_dir)
    if source.factory or called:
        found = _call_factory(found, target)
    return take(found, target, source)


def take(application: Any, name: str, source: Source) -> Application:
    """Return an application that is there already in the form that it is served in."""
    adapted: Application = adapt(application, name, source.interface, source.wsgi_threads)
    return adapted


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
