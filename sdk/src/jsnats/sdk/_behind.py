"""Work in a thread that goes on behind its caller, one piece at a time: hashing and writing while more arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self


class Behind:
    """An async context manager; its end waits for the last piece, and raises what that raised.

    A thread cannot be stopped: also when who waits is cancelled, nothing runs any more behind the end of the block.
    """

    def __init__(self) -> None:
        self._running: asyncio.Future[Any] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, cls: object, error: object, trace: object) -> None:
        if error is None:
            await self.done()
        elif self._running:
            await asyncio.wait({self._running})
            self._running.exception()  # nobody's: the block has its own

    async def run(self, work: Callable[..., object], *args: Any) -> None:
        """Start `work` when the piece before is done. Raises what that one raised."""
        await self.done()
        self._running = asyncio.ensure_future(asyncio.to_thread(work, *args))

    async def done(self) -> None:
        """Wait until nothing runs. Raises what the last piece raised."""
        if self._running:
            await asyncio.wait({self._running})
            running, self._running = self._running, None
            running.result()
