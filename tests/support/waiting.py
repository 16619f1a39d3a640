"""Waiting for a state with a deadline. The only place in the tests that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# A loaded two-core machine starts an interpreter in about two seconds; ten leaves room.
DEADLINE = 10.0
POLL_INTERVAL = 0.01


def eventually(
    probe: Callable[[], T], what: str = "the expected state", deadline: float = DEADLINE
) -> T:
    """Return the first truthy result of `probe`; fail when the deadline passes."""
    limit = time.monotonic() + deadline
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() > limit:
            raise AssertionError(f"no {what} within {deadline} s, last seen: {result!r}")
        time.sleep(POLL_INTERVAL)


def settled(probe: Callable[[], int], quiet: float = 0.5, deadline: float = DEADLINE) -> int:
    """Return the value of `probe` once it has not changed for `quiet` seconds."""
    limit = time.monotonic() + deadline
    value, since = probe(), time.monotonic()
    while time.monotonic() - since < quiet:
        if time.monotonic() > limit:
            raise AssertionError(f"still changing after {deadline} s: {value}")
        time.sleep(POLL_INTERVAL)
        current = probe()
        if current != value:
            value, since = current, time.monotonic()
    return value
