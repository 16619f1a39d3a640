"""What keeps an application from being served."""

from __future__ import annotations


class ApplicationError(Exception):
    """The application cannot be loaded; the message says why and what to do."""
