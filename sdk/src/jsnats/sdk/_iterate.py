"""What an async generator yields, for sync code: all that is there crosses the thread at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Generic, TypeVar

from ._bridge import Bridge

T = TypeVar("T")

AHEAD = 1024
"""Items that may wait to be taken."""


def iterate(bridge: Bridge, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Yield the items. Leaving early closes the generator; what it raises comes after the last item."""
    pump = _Pump(items)
    try:
        while batch := bridge.run(pump.take()):
            yield from batch
    finally:
        if bridge.alive:
            bridge.run(pump.close())


class _Pump(Generic[T]):
    """Reads ahead in a task, which the first `take` starts."""

    def __init__(self, items: AsyncGenerator[T, None]) -> None:
        self._items = items
        self._ready: list[T] = []
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def _read(self) -> None:
        try:
            async with aclosing(self._items) as items:
                async for item in items:
                    self._ready.append(item)
                    self._changed.set()
                    while len(self._ready) >= AHEAD:
                        self._room.clear()
                        await self._room.wait()
        finally:
            self._changed.set()

    async def take(self) -> list[T]:
        """Wait for items and return all there are; none when there is no more. Raises what the generator raised."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._read())
        while not self._ready and not self._task.done():
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait({changed, self._task}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        batch, self._ready = self._ready, []
        self._room.set()
        if not batch:
            self._task.result()
        return batch

    async def close(self) -> None:
        """Read no more."""
        if self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._items.aclose()
