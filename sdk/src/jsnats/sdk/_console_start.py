"""Where to begin reading a console: "10m", "boot", "@4711", a time, a marker's text; and finding that in the store."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from jsnats.schemas import CONSOLE, ConfigurationError, ProtocolError, console_subject, headers as h

from ._broker_errors import Disconnected
from ._connection import Connection
from ._console_record import BOOT, ConsoleRecord, parse_record
from ._duration import is_duration, parse_duration
from ._nats import Msg
from ._replay import replay
from ._since import bounded, clock_time

Start = str | float | datetime | timedelta | None
"""`None` or "now": only what comes; "start": all that is stored; "boot": the last power-on; "10m", "1h30m" or a
timedelta: so long ago; a number, datetime, "2026-01-31T03:14" or "03:14": that time; "@4711": that offset; any other
text, or "mark:TEXT": the last marker whose text has it."""

_WINDOW = 4096
"""Messages of the stream that are looked through at first, from the newest back; then twice as many."""
HELP = "a duration (10m), a time (03:14 or 2026-01-31T03:14), an offset (@4711), start, boot, or the text of a marker"


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the store: beyond sequence `after`, or from what was stored at `time` on, without bytes before
    `offset`."""

    after: int = 0
    time: float | None = None
    offset: int | None = None


def parse_since(since: Start) -> Point | str:
    """Return the place, or a word for what has to be looked up: "now", "boot", "@<offset>", "mark:<text>".

    Times of day are local; one that is still to come was yesterday's. Raises ConfigurationError.
    """
    if isinstance(since, timedelta):
        return Point(time=bounded(time.time() - since.total_seconds()))
    if isinstance(since, datetime):
        return Point(time=bounded(since.timestamp()))
    if isinstance(since, (int, float)):
        return Point(time=bounded(since))
    return _parse_text((since or "now").strip())


def _parse_text(text: str) -> Point | str:
    if text == "start":
        return Point()
    if text in ("now", "boot") or text.startswith("mark:"):
        return text
    if re.fullmatch(r"@\d{1,18}", text):
        return text
    if is_duration(text):
        return Point(time=bounded(time.time() - parse_duration(text)))
    moment = clock_time(text)
    return Point(time=bounded(moment)) if moment is not None else f"mark:{text}"


def _end(newest: ConsoleRecord) -> int | None:
    return newest.end if newest.offset >= 0 else None


class Finder:
    """Finds places in what is stored of one console."""

    def __init__(self, connection: Connection, exporter: str, path: str) -> None:
        self._connection = connection
        self._subject = console_subject(exporter, path)
        self.name = f"{exporter}.{path}" if path else exporter

    async def find(self, since: Start | Point) -> Point:
        """Return where to begin. Raises ConfigurationError for a marker that is not there, BrokerError."""
        if isinstance(since, Point):
            return since
        found = parse_since(since)
        if isinstance(found, Point):
            return found
        newest = await self.newest()
        if found == "now":
            return Point(after=newest.sequence, offset=_end(newest)) if newest else Point()
        if found.startswith("@"):
            offset = int(found[1:])
            return Point(after=await self._before(offset, newest.sequence) if newest else 0, offset=offset)
        return await self._mark(found, newest)

    async def newest(self) -> ConsoleRecord | None:
        """The last record; offset -1 if nobody can read it."""
        while True:
            try:
                return await self._newest()
            except Disconnected:
                await self._connection.wait_connected()

    async def _newest(self) -> ConsoleRecord | None:
        async with aclosing(replay(self._connection, CONSOLE.name, self._subject, last_per_subject=True)) as stored:
            async for sequence, message in stored:
                try:
                    return parse_record(sequence, message)
                except ProtocolError:
                    return ConsoleRecord(sequence=sequence, offset=-1, time=0.0)
        return None

    async def _mark(self, what: str, newest: ConsoleRecord | None) -> Point:
        wanted = what.removeprefix("mark:")
        if newest:
            async for sequence, kind in self._marks_back(newest.sequence):
                if kind == BOOT if what == "boot" else await self._says(sequence, wanted):
                    return Point(after=sequence - 1)
        missing = "power-on" if what == "boot" else repr(wanted)
        raise ConfigurationError(f"{self.name} has no marker {missing} in what is stored; begin at {HELP}")

    async def _says(self, sequence: int, text: str) -> bool:
        record = await self._record(sequence - 1)
        return record is not None and record.sequence == sequence and text in record.text

    async def _marks_back(self, newest: int) -> AsyncIterator[tuple[int, str]]:
        """Yield (sequence, kind) of the markers, from the newest back."""
        high, window = newest + 1, _WINDOW
        while high > 1:
            low = max(1, high - window)
            marks = [
                (sequence, kind)
                async for sequence, message in self._range(low, high)
                if (kind := (message.headers or {}).get(h.MARK))
            ]
            for mark in reversed(marks):
                yield mark
            high, window = low, 2 * window

    async def _range(self, low: int, high: int) -> AsyncIterator[tuple[int, Msg]]:
        stored = replay(self._connection, CONSOLE.name, self._subject, after=low - 1, headers_only=True)
        async with aclosing(stored):
            async for sequence, message in stored:
                if sequence >= high:
                    return
                yield sequence, message

    async def _before(self, offset: int, newest: int) -> int:
        """The sequence after which to read for `offset`: that of the last record which begins at it or before, less 1.

        Offsets grow with sequences, so it is a binary search.
        """
        low, high = 0, newest + 1
        while high - low > 1:
            middle = (low + high) // 2
            record = await self._record(middle - 1)
            if record and record.offset <= offset:
                low = record.sequence
            else:
                high = middle
        return max(0, low - 1)

    async def _record(self, after: int) -> ConsoleRecord | None:
        """The first good record beyond a sequence."""
        stored = replay(self._connection, CONSOLE.name, self._subject, after=after, batch=1)
        async with aclosing(stored):
            async for sequence, message in stored:
                try:
                    return parse_record(sequence, message)
                except ProtocolError:
                    continue
        return None
