"""One sequence of bytes from two sources that overlap: the record of a console, and an open session with the device.

The session is sooner, and has what is off the record; the record has the past, and what was said while no session was
open. Absolute offsets say what is the same byte.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsnats.sdk import ConsoleRecord

HOLD_S = 1.0
"""How long bytes of the session wait, once the record has been read, for those before them: they may be off it."""
RESTART = "start"
"""The kind of the marker with which an agent begins to read."""
HOLD_BYTES = 8 << 20
"""More than that is not held: the record will bring it."""


class Merge:
    """Takes from both sources and returns what is new. `position` is the offset of the next byte, if it is known."""

    def __init__(self, position: int | None = None) -> None:
        self.position = position
        self._held: deque[ConsoleRecord] = deque()
        self._size = 0
        self._moved = float("inf")

    def caught_up(self) -> None:
        """All that was stored has been given to `stored`."""
        self._moved = time.monotonic()

    def stored(self, record: ConsoleRecord) -> list[ConsoleRecord]:
        """A record from the store. What it leaves out, nobody has but the session."""
        self._moved = max(self._moved, time.monotonic())
        if record.mark == RESTART and self.position is not None:
            # What an agent that was killed had not recorded yet has no place: its successor counts on from the record.
            self.position = min(self.position, record.offset)
        if record.mark:
            return [record]
        shown = self._release(record.offset) if self._held else []
        if self.position is None or self.position < record.offset:
            self.position = record.offset
        return [*shown, *self._advance(record), *self._release(None)]

    def live(self, offset: int, data: bytes) -> list[ConsoleRecord]:
        """Bytes of the session."""
        from jsnats.sdk import ConsoleRecord

        record = ConsoleRecord(sequence=0, offset=offset, time=time.time(), data=data)
        if self.position is not None and offset <= self.position:
            return self._advance(record)
        if self._size + len(data) <= HOLD_BYTES:
            self._moved = self._moved if self._held else max(self._moved, time.monotonic())
            self._held.append(record)
            self._size += len(data)
        return []

    def overdue(self, now: float) -> list[ConsoleRecord]:
        """What has been held for HOLD_S without a sign of what should come before it."""
        if not self._held or now - self._moved < HOLD_S:
            return []
        self.position = self._held[0].offset
        return self._release(None)

    @property
    def holds(self) -> bool:
        """Whether something waits."""
        return bool(self._held)

    def _release(self, before: int | None) -> list[ConsoleRecord]:
        """What is held and next; with `before`, also behind a hole, if it begins before that offset."""
        shown: list[ConsoleRecord] = []
        while self._held:
            first = self._held[0]
            hole = self.position is None or first.offset > self.position
            if hole and (before is None or first.offset >= before):
                break
            if hole:
                self.position = first.offset
            self._held.popleft()
            self._size -= len(first.data)
            shown += self._advance(first)
        return shown

    def _advance(self, record: ConsoleRecord) -> list[ConsoleRecord]:
        assert self.position is not None
        fresh = record.from_offset(self.position)
        self.position = max(self.position, record.end)
        return [fresh] if fresh.data else []
