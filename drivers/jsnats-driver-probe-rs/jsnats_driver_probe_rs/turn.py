"""Whose turn it is: a probe serves one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

GOING_S = 5.0
"""How long to wait for gdb or RTT to be gone: who has left them a moment ago has left the probe, too."""


class Turn:
    """Commands wait for each other. What has the probe for as long as it likes is a holder, and is not waited for."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._holder = ""

    @asynccontextmanager
    async def command(self) -> AsyncGenerator[None, None]:
        """Have the probe for one command. Raises ConnectionError where there is a holder."""
        await self._acquire(self._holder)
        try:
            yield
        finally:
            self._lock.release()

    @asynccontextmanager
    async def held(self, holder: str) -> AsyncGenerator[None, None]:
        """Have the probe until the end of the block. Raises ConnectionError where there is a holder already."""
        before = self._holder
        self._holder = before or holder  # at once: who comes now shall not wait behind us
        try:
            await self._acquire(before)
        except BaseException:
            if not before:
                self._holder = ""
            raise
        self._holder = holder
        try:
            yield
        finally:
            self._holder = ""
            self._lock.release()

    async def _acquire(self, holder: str) -> None:
        try:
            async with asyncio.timeout(GOING_S if holder else None):
                await self._lock.acquire()
        except TimeoutError as error:
            raise ConnectionError(f"{holder} has the probe: end it first") from error
