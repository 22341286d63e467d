"""Writing the lab's records: several at once or none, each only as it was when that was decided."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from jsnats.schemas import LAB, LeaseEnd
from jsnats.sdk import Conflict, Connection, Disconnected, Mirror, Record, Write, leader_record, put_records

MARKER_TTL_S = 3600
"""How long it can be read why something is gone."""
CATCH_UP_S = 1.0


class _Encodes(Protocol):
    def encode(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Change:
    """A record is written, or with a LeaseEnd deleted."""

    subject: str
    record: _Encodes

    @property
    def deletes(self) -> bool:
        """It leaves a marker."""
        return isinstance(self.record, LeaseEnd)


class Ledger:
    """Writes what follows from the mirror of the lab's records, and applies it there at once.

    Whoever calls decides on what the mirror says and calls `write` in the same turn of the loop: the revisions that
    are expected are those of that moment.
    """

    def __init__(self, connection: Connection, mirror: Mirror) -> None:
        self._connection = connection
        self.mirror = mirror
        self._last = 0

    async def write(self, *changes: Change) -> list[int]:
        """Write all of it, and return the revisions.

        Raises Conflict when somebody else was faster, or when nobody can say whether it was stored; the mirror then
        has what is there now, so decide again. Raises BrokerError.
        """
        writes = [self._planned(each) for each in changes]
        try:
            revisions = await put_records(self._connection, writes)
        except (Conflict, Disconnected, TimeoutError) as error:
            await self.read_again(each.subject for each in writes)
            if isinstance(error, Conflict) or not all(self._is_stored(each) for each in writes):
                raise Conflict(str(error)) from error
            return [self.mirror.revision(each.subject) for each in writes]
        self._last = max(self._last, *revisions)
        for each, revision in zip(writes, revisions, strict=True):
            self.mirror.apply(each.subject, _as_stored(each, revision))
        return revisions

    def touch(self, subject: str) -> Change:
        """The record as it is, or a deletion of what is not there: whoever else writes it now has a conflict."""
        record = self.mirror.records.get(subject)
        if record and record.body:
            return Change(subject, _Raw(record.body))
        return Change(subject, LeaseEnd.decode(record.end) if record and record.end else LeaseEnd())

    async def read_again(self, subjects: Iterable[str]) -> None:
        """Have the mirror say what is stored now, with everything that was stored before. Raises BrokerError."""
        known = {subject: self.mirror.revision(subject) for subject in subjects}
        stored = await asyncio.gather(*(leader_record(self._connection, LAB.name, subject) for subject in known))
        found = dict(zip(known, stored, strict=True))
        self._last = max([self._last, *(each.revision for each in found.values() if each)])
        await self.caught_up()
        for subject, record in found.items():
            if record:
                self.mirror.apply(subject, record)
            elif self.mirror.revision(subject) == known[subject]:
                self.mirror.forget(subject)

    async def caught_up(self) -> None:
        """Let the mirror arrive at what was written or read here last.

        Otherwise it has that, and not what others wrote before: a booking, or somebody who came earlier.
        """
        revision = self._last
        try:
            async with asyncio.timeout(CATCH_UP_S):
                while self.mirror.seen < revision:
                    self.mirror.updated.clear()
                    await self.mirror.updated.wait()
        except TimeoutError:
            pass

    def _planned(self, change: Change) -> Write:
        return Write(
            subject=change.subject,
            body=change.record.encode(),
            expect=self.mirror.revision(change.subject),
            delete=change.deletes,
            ttl_s=MARKER_TTL_S if change.deletes else 0,
        )

    def _is_stored(self, write: Write) -> bool:
        found = self.mirror.records.get(write.subject)
        if found is None or found.revision <= (write.expect or 0):
            return False
        return _as_stored(write, found.revision) == found


@dataclass(frozen=True, slots=True)
class _Raw:
    body: bytes

    def encode(self) -> bytes:
        return self.body


def _as_stored(write: Write, revision: int) -> Record:
    return Record(b"", revision, write.body) if write.delete else Record(write.body, revision)


def deletions(subjects: Sequence[str], end: LeaseEnd) -> list[Change]:
    """Delete them all, each with the same words."""
    return [Change(subject, end) for subject in subjects]
