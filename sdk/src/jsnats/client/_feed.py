"""What a console says, as its readers take it: all that has come at once, bounded, from its record and a session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio

from jsnats.schemas import JsnatsError

from ._merge import Merge

if TYPE_CHECKING:
    from jsnats.sdk import ConsoleReader, ConsoleRecord, DuplexStream, Start
    from jsnats.sdk._console_start import Point

LIMIT = 4 << 20
"""Bytes that wait to be taken. Then the record is not read on, and bytes of the session are left to the record; of a
console that is not recorded, to the exporter."""
_OVERHEAD = 256

OnLink = Callable[[bool], None]


class Session:
    """An open session with a device; `offset` is that of the next byte it brings."""

    def __init__(self, stream: DuplexStream) -> None:
        self.stream = stream
        self.offset = int(stream.metadata.get("offset", 0))
        self.recorded = bool(stream.metadata.get("subject", True))


class Feed:
    """Follows a console in a task of its own. Make it with `open`, on the loop of the lab; `close` ends it."""

    def __init__(self, position: int | None) -> None:
        self._merge = Merge(position)
        self._records: list[ConsoleRecord] = []
        self._size = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._error: Exception | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def heard(self) -> int:
        """The offset behind all that has come."""
        return self._merge.position or 0

    @classmethod
    async def open(cls, reader: ConsoleReader, since: Start, on_link: OnLink | None = None) -> Feed:
        """Begin at `since`. Raises ConfigurationError for one that is not there, BrokerError."""
        point = await reader.find(since)
        feed = cls(point.offset)
        feed._tasks.append(asyncio.ensure_future(feed._read(reader, point, on_link)))
        return feed

    async def _read(self, reader: ConsoleReader, point: Point, on_link: OnLink | None) -> None:
        try:
            async with aclosing(reader.follow(point, on_link, self._merge.caught_up)) as records:
                async for record in records:
                    await self._has_room()
                    self._put(self._merge.stored(record))
        except Exception as error:  # noqa: BLE001 - raised by take()
            self._error = error
            self._arrived.set()

    def attach(self, session: Session, on_end: Callable[[str], None]) -> None:
        """Take what an open session brings too; `on_end` is told why it ended."""
        if not session.recorded:
            self._merge.position = session.offset  # nothing else will bring what comes before it
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.ensure_future(self._listen(session, on_end)))

    async def _listen(self, session: Session, on_end: Callable[[str], None]) -> None:
        try:
            while True:
                data = await session.stream.receive()
                if not session.recorded:
                    await self._has_room()
                if self._size < LIMIT:
                    self._put(self._merge.live(session.offset, data))
                session.offset += len(data)
        except anyio.EndOfStream:
            on_end("the exporter has closed the session")
        except anyio.ClosedResourceError:
            return  # by us
        except (JsnatsError, anyio.BrokenResourceError) as error:
            on_end(str(error))

    async def _has_room(self) -> None:
        while self._size >= LIMIT:
            self._room.clear()
            await self._room.wait()

    def _put(self, records: list[ConsoleRecord]) -> None:
        self._records += records
        self._size += sum(len(record.data) + _OVERHEAD for record in records)
        if records:
            self._arrived.set()

    async def take(self) -> list[ConsoleRecord]:
        """Wait for records and return all there are. Raises BrokerError when nothing can come any more."""
        while not self._records:
            if self._error:
                raise self._error
            self._arrived.clear()
            await self._wait()
        records, self._records, self._size = self._records, [], 0
        self._room.set()
        return records

    async def _wait(self) -> None:
        """Until something arrives, or what is held has been so for too long."""
        while not self._arrived.is_set():
            try:
                async with asyncio.timeout(0.5 if self._merge.holds else None):
                    await self._arrived.wait()
            except TimeoutError:
                self._put(self._merge.overdue(time.monotonic()))

    async def close(self) -> None:
        """Follow no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
