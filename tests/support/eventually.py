"""Waiting for something to become true, with a deadline: what tests do instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class NeverTrue(AssertionError):
    """It did not become true in time."""


def eventually(fn: Callable[[], T], timeout_s: float = 10.0, interval_s: float = 0.05) -> T:
    """Call `fn` until what it returns is true, and return that. Raises NeverTrue with the last answer; what `fn` raises passes."""
    deadline = time.monotonic() + timeout_s
    while not (answer := fn()):
        if time.monotonic() > deadline:
            raise NeverTrue(f"after {timeout_s} s it is still {answer!r}")
        time.sleep(interval_s)
    return answer


async def eventually_async(fn: Callable[[], T | Awaitable[T]], timeout_s: float = 10.0, interval_s: float = 0.05) -> T:
    """The same for code in an event loop; `fn` may be a coroutine function."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = fn()
        answer: T = await result if inspect.isawaitable(result) else result
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise NeverTrue(f"after {timeout_s} s it is still {answer!r}")
        await asyncio.sleep(interval_s)
