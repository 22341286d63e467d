"""What the lab's records say right now, decoded once per version: boards, leases, the queue, bookings.

Pure: the scheduler's mirrors feed it record by record, and everything else asks it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from jsnats.schemas import (
    Board,
    BookingRecord,
    ConfigurationError,
    ExporterNote,
    LeaseRecord,
    PresenceRecord,
    ProtocolError,
    QueueRecord,
    Selector,
    TreeRecord,
    Waiting,
)
from jsnats.sdk import Record

from ._matches import Matches

log = logging.getLogger("jsnats.scheduler")

OFFLINE = "offline"
_Decoded = TypeVar("_Decoded")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of record: the subject it has without its name."""

    prefix: str

    def key(self, name: str) -> str:
        """The subject of the record of that name."""
        return self.prefix + name


LEASE = Kind("$KV.jsnats_lab.lease.")
QUEUE = Kind("$KV.jsnats_lab.queue.")
BOOKING = Kind("$KV.jsnats_lab.booking.")
NOTE = Kind("$KV.jsnats_lab.exporter.")
PRESENCE = Kind("$KV.jsnats_presence.")
TREE = Kind("$KV.jsnats_tree.")
_KINDS = (LEASE, QUEUE, BOOKING, NOTE, PRESENCE, TREE)

Told = Callable[[Kind, str, Record], None]
"""Called with the kind and name of a record that has changed, when it has been taken over; its body is empty if it is
gone, and its revision is 0 if it has expired or vanished."""


class LabState:
    """Boards by name, and which of them are free; leases and notes by exporter; queue and bookings by id.

    Every one of `told` is told of every change that is one.
    """

    def __init__(self) -> None:
        self.boards: dict[str, Board] = {}
        self.free: set[str] = set()
        self.leases: dict[str, LeaseRecord] = {}
        self.queue: dict[str, Waiting] = {}
        self.bookings: dict[str, BookingRecord] = {}
        self.notes: dict[str, ExporterNote] = {}
        self.presence: dict[str, PresenceRecord] = {}
        self.trees: dict[str, TreeRecord] = {}
        self.matches = Matches()
        self.told: list[Told] = []
        self._boards_of: dict[str, set[str]] = {}
        self._bookings_of: dict[str, dict[str, BookingRecord]] = {}
        self._said: dict[str, bytes] = {}

    def take(self, subject: str, record: Record) -> None:
        """Take over a record as a mirror has it."""
        kind = next((each for each in _KINDS if subject.startswith(each.prefix)), None)
        if kind is None or (kind is PRESENCE and self._same_presence(subject, record)):
            return
        name = subject[len(kind.prefix) :]
        if kind is LEASE:
            self._take_lease(name, _decode(subject, record, lambda body: LeaseRecord.decode(body).at(record.revision)))
        elif kind is QUEUE:
            found = _decode(subject, record, lambda body: _readable(QueueRecord.decode(body).at(record.revision)))
            _keep(self.queue, name, Waiting(id=name, record=found) if found else None)
        elif kind is BOOKING:
            self._take_booking(name, _decode(subject, record, BookingRecord.decode))
        elif kind is NOTE:
            _keep(self.notes, name, _decode(subject, record, ExporterNote.decode))
        elif kind is PRESENCE:
            _keep(self.presence, name, _decode(subject, record, PresenceRecord.decode))
        else:
            self._take_tree(name, _decode(subject, record, TreeRecord.decode))
        if kind not in (QUEUE, BOOKING):
            self._rebuild(name)
        for tell in self.told:
            tell(kind, name, record)

    def held(self, lease: str) -> dict[str, LeaseRecord]:
        """The records of the lease with that id, by exporter; none if there is no such lease."""
        return {name: self.leases[name] for name in sorted(self._boards_of.get(lease, ()))}

    def is_offline(self, exporter: str) -> bool:
        """Nobody serves it, or nobody knows."""
        found = self.presence.get(exporter)
        return found is None or found.state == OFFLINE

    def bookings_of(self, exporter: str) -> Collection[BookingRecord]:
        """Its bookings."""
        return self._bookings_of.get(exporter, {}).values()

    def fits(self, selector: str) -> Collection[str]:
        """The names of all exporters that the selector means, also of those that are not there."""
        return self.matches.names(selector)

    def wanted(self) -> list[Board]:
        """The boards that anybody waits for."""
        selectors = dict.fromkeys(text for each in self.queue.values() for text in each.record.selectors)
        names = dict.fromkeys(name for text in selectors for name in self.fits(text))
        return [self.boards[name] for name in names]

    def labels(self) -> Iterator[Mapping[str, str]]:
        """Those of each exporter."""
        return (tree.labels for tree in self.trees.values())

    # ------------------------------------------------------------------ taking over

    def _same_presence(self, subject: str, record: Record) -> bool:
        """Most presence records only say again what is known, thousands in a second in a big lab."""
        same = bool(record.body) and self._said.get(subject) == record.body
        self._said[subject] = record.body
        return same

    def _take_lease(self, name: str, found: LeaseRecord | None) -> None:
        before = self.leases.get(name)
        if before:
            self._boards_of[before.id].discard(name)
            if not self._boards_of[before.id]:
                del self._boards_of[before.id]
        if found:
            self._boards_of.setdefault(found.id, set()).add(name)
        _keep(self.leases, name, found)

    def _take_booking(self, id_: str, found: BookingRecord | None) -> None:
        before = self.bookings.get(id_)
        for name in set(before.boards) if before else ():
            self._bookings_of[name].pop(id_, None)
            if not self._bookings_of[name]:
                del self._bookings_of[name]
        if found:
            for name in found.boards:
                self._bookings_of.setdefault(name, {})[id_] = found
        _keep(self.bookings, id_, found)

    def _take_tree(self, name: str, found: TreeRecord | None) -> None:
        _keep(self.trees, name, found)
        self.matches.put(name, found.labels if found else None)

    def _rebuild(self, name: str) -> None:
        tree, note, presence = self.trees.get(name), self.notes.get(name), self.presence.get(name)
        self.free.discard(name)
        if tree is None:
            self.boards.pop(name, None)
            return
        self.boards[name] = Board(
            name=name,
            labels=tree.labels,
            state=presence.state if presence else OFFLINE,
            disabled=bool(note and note.disabled),
            lease=self.leases.get(name),
        )
        if self.boards[name].free:
            self.free.add(name)


def _readable(wanted: QueueRecord) -> QueueRecord:
    for each in wanted.selectors:
        Selector.parse(each)
    return wanted


def _decode(subject: str, record: Record, decode: Callable[[bytes], _Decoded]) -> _Decoded | None:
    try:
        return decode(record.body) if record.body else None
    except (ProtocolError, ConfigurationError) as error:
        log.warning("the record %s is no good and not looked at: %s", subject, error)
        return None


def _keep(records: dict[str, _Decoded], name: str, found: _Decoded | None) -> None:
    if found is None:
        records.pop(name, None)
    else:
        records[name] = found
