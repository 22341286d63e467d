"""Waiting for what nobody announces: what another process, a thread or a device is doing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeVar, overload

T = TypeVar("T")
Errors = type[Exception] | tuple[type[Exception], ...]

POLL_S = 0.02


def until(fact: Callable[[], T], timeout_s: float = 20.0, what: str = "", *, despite: Errors = ()) -> T:
    """Ask `fact()` again and again until it gives something true, and return that.

    `despite` are errors of `fact()` that mean "not yet"; others are raised at once. Raises AssertionError after
    `timeout_s`, which says `what` was waited for; its cause is the last of those errors, if the last answer was one.
    """
    end = time.monotonic() + timeout_s
    while True:
        error = None
        try:
            if found := fact():
                return found
        except despite as raised:
            error = raised
        if time.monotonic() > end:
            raise _never(timeout_s, what) from error
        time.sleep(POLL_S)


@overload
async def until_async(
    fact: Callable[[], Awaitable[T]], timeout_s: float = ..., what: str = ..., *, despite: Errors = ...
) -> T: ...
@overload
async def until_async(
    fact: Callable[[], T], timeout_s: float = ..., what: str = ..., *, despite: Errors = ...
) -> T: ...
async def until_async(fact: Callable[[], Any], timeout_s: float = 20.0, what: str = "", *, despite: Errors = ()) -> Any:
    """As `until`, while the loop goes on; `fact` is sync or async. An async one is cancelled when the time is over."""
    error: Exception | None = None
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            while True:
                try:
                    found = fact()
                    if found := await found if isawaitable(found) else found:
                        return found
                    error = None
                except despite as raised:
                    error = raised
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        if not limit.expired():
            raise
        raise _never(timeout_s, what) from error


def _never(timeout_s: float, what: str) -> AssertionError:
    return AssertionError(f"it did not come to pass within {timeout_s:g} s{what and f': {what}'}")
