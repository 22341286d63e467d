"""Reading a console: what is stored of it, then what it says, every byte once.

The exporter's records are stored in CONSOLE and republished by the broker. A reader subscribes to those, reads the
store, and goes on with what came meanwhile: the sequence of a message in the stream says where it belongs, and each
republished one names the sequence before it. So a message that was lost on the way (an outage, a slow reader, a
cluster that had not heard of us yet) is noticed and read from the store. Nobody has to acknowledge or to wait for
anybody: any number may watch, none can slow the recording down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from jsnats.schemas import (
    CONSOLE,
    PRESENCE,
    BrokerError,
    BrokerUnreachable,
    ProtocolError,
    console_subject,
    presence_key,
)

from ._broker_errors import Disconnected
from ._buckets import last_record
from ._console_live import Live, OnLink
from ._console_record import LOST, OFF_RECORD, ConsoleRecord, Continuity, parse_record
from ._console_start import Finder, Point, Start
from ._replay import replay

if TYPE_CHECKING:
    from ._lab import AsyncLab

log = logging.getLogger("jsnats.console")

BATCH = 128
"""Messages under way from the store: of at most 64 KiB each, so about as much as may wait live."""
AGAIN_S = 0.5
BEHIND_S = 1.0
"""How far a server of a cluster may be behind that has just come back."""
SOON_S = 1.0
"""How long the record may lie behind a session: 20 ms, as a rule."""


class ConsoleReader:
    """Reads the console at `path` of an exporter. Any number may read; `since` is told at `Start`."""

    def __init__(self, lab: AsyncLab, exporter: str, path: str = "") -> None:
        self._connection = lab.connection
        self._exporter = exporter
        self._path = path
        self._finder = Finder(lab.connection, exporter, path)

    @property
    def name(self) -> str:
        """As it is written: "bench-1.dut.serial"."""
        return self._finder.name

    async def find(self, since: Start) -> Point:
        """Look `since` up, for `follow`. Raises ConfigurationError for one that is not there, BrokerError."""
        await self._connection.wait_connected()
        return await self._finder.find(since)

    async def absence(self) -> str:
        """Why nothing can come: the exporter is offline, the broker is away. Empty when both are there."""
        connection = self._connection
        if not connection.connected.is_set():
            return f"the broker at {connection.context.url} is away"
        try:
            record = await last_record(connection, PRESENCE.name, presence_key(self._exporter))
        except BrokerError as error:
            return str(error)
        return "" if record and record.body else f"exporter {self._exporter!r} is offline"

    async def replay(self, since: Start = "start", upto: int = 0) -> AsyncGenerator[ConsoleRecord, None]:
        """Yield what is stored at the time of the call, from `since` on.

        Bytes before the offset `upto` are on their way to the store, and waited for; for SOON_S at most, since they may
        be off the record. Raises ConfigurationError for a `since` that is not there, AccessDenied, BrokerUnreachable.
        """
        point = await self._finder.find(since)
        newest = await self._recorded(upto)
        view = _View(point)
        async with aclosing(self._stored(point)) as stored:
            async for sequence, record in stored:
                for each in view.show(record):
                    yield each
                if newest is None or sequence >= newest.sequence:
                    return

    async def _recorded(self, upto: int) -> ConsoleRecord | None:
        """The newest record, that of the byte before `upto` or a later one if it comes soon."""
        until = asyncio.get_running_loop().time() + (SOON_S if upto else 0)
        while True:
            newest = await self._finder.newest()
            there = newest is None or newest.end >= upto or newest.mark == OFF_RECORD
            if there or asyncio.get_running_loop().time() >= until:
                return newest
            await asyncio.sleep(SOON_S / 50)

    async def follow(
        self, since: Start | Point = None, on_link: OnLink | None = None, on_end: Callable[[], None] | None = None
    ) -> AsyncGenerator[ConsoleRecord, None]:
        """Yield what is stored from `since` on, then what comes, for ever; outages of any length are waited for.

        `on_link` is told when the broker is lost (False) and back (True), `on_end` when all that is stored was taken.
        Raises ConfigurationError for a `since` that is not there, AccessDenied, and BrokerUnreachable once the
        connection has been closed.
        """
        await self._connection.wait_connected()
        point = await self._finder.find(since)
        view = _View(point)
        async with Live(self._connection, self._exporter, self._path, on_link) as live:
            while True:
                try:
                    for each in await self._renewed(live, view):
                        yield each
                    async with aclosing(self._stored(view.point)) as stored:
                        async for sequence, record in stored:
                            view.pass_to(sequence)
                            for each in view.show(record):
                                yield each
                except BrokerError as error:
                    await self._wait_out(error, live)
                    continue
                if on_end:
                    on_end()
                while (message := await live.next()) is not None:
                    if not view.continues(*message):
                        break
                    for each in view.take(message[1]):
                        yield each

    async def _stored(self, point: Point) -> AsyncGenerator[tuple[int, ConsoleRecord | None], None]:
        subject = console_subject(self._exporter, self._path)
        found = replay(self._connection, CONSOLE.name, subject, after=point.after, since=point.time, batch=BATCH)
        async with aclosing(found):
            async for sequence, message in found:
                try:
                    record = parse_record(sequence, message)
                except ProtocolError as error:
                    log.warning("ignored record %d of %s: %s", sequence, subject, error)
                    record = None
                yield sequence, record

    async def _renewed(self, live: Live, view: _View) -> list[ConsoleRecord]:
        """After an outage: a store that is behind us is another one, to be read from its start."""
        if not live.back:
            return []
        behind = await self._is_behind(view)
        if behind and self._connection.clustered:  # or it is the server that was asked
            await asyncio.sleep(BEHIND_S)
            behind = await self._is_behind(view)
        live.back = False
        return view.begin_again() if behind else []

    async def _is_behind(self, view: _View) -> bool:
        newest = await self._finder.newest()
        return (newest.sequence if newest else 0) < view.point.after

    async def _wait_out(self, error: BrokerError, live: Live) -> None:
        live.check()
        passing = isinstance(error, (BrokerUnreachable, Disconnected))
        if self._connection.closing or (not passing and not self._connection.just_back):
            raise error
        log.info("console of %s: %s; trying again", self._exporter, error)
        await asyncio.sleep(AGAIN_S)
        await live.connected()


class _View:
    """What the reader has seen: sequences decide what comes next, offsets whether something is missing."""

    def __init__(self, point: Point) -> None:
        self.point = point
        self._gaps = Continuity(point.offset)

    def continues(self, previous: int, record: ConsoleRecord) -> bool:
        """Say whether a live record is the next one, or an old one; not, if the store has some before it."""
        return previous <= self.point.after

    def take(self, record: ConsoleRecord) -> Iterator[ConsoleRecord]:
        """Show a live record unless it has been seen."""
        if record.sequence > self.point.after:
            self.pass_to(record.sequence)
            yield from self.show(record)

    def pass_to(self, sequence: int) -> None:
        """All up to there is done."""
        self.point = Point(after=sequence, offset=self.point.offset)

    def show(self, record: ConsoleRecord | None) -> Iterator[ConsoleRecord]:
        """Yield a record without what lies before the point, and a marker where something is missing."""
        if record is None:
            return
        if self.point.offset is not None:
            record = record.from_offset(self.point.offset)
        if record.mark or record.data:
            yield from self._gaps.check(record)

    def begin_again(self) -> list[ConsoleRecord]:
        """The store is a new one."""
        self.point, self._gaps = Point(), Continuity()
        return [ConsoleRecord(sequence=0, offset=0, time=0.0, mark=LOST, text="the broker has lost what it had stored")]
