"""Making something in a thread that somebody has to give back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def made_in_thread(make: Callable[..., T], *arguments: object, release: Callable[[T], object]) -> T:
    """Return what `make` makes. When nobody waits for it any more, it is released as soon as it is made."""
    making = asyncio.ensure_future(asyncio.to_thread(make, *arguments))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:

        def give_back(done: asyncio.Future[T]) -> None:
            if not done.cancelled() and not done.exception():
                release(done.result())

        making.add_done_callback(give_back)
        raise
