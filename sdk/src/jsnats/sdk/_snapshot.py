"""The whole lab at one moment, from its records: exporters, leases, who waits and for how long.

Pure: what is read where, `_lab.py` and `_lease_wait.py` say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jsnats.schemas import (
    Board,
    BookingRecord,
    ExporterNote,
    LeaseRecord,
    PresenceRecord,
    QueueRecord,
    Selector,
    Waiting,
    decode_json,
    forecast,
    unescape_user,
)

from ._buckets import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterInfo:
    """One line of `jsnats ls`. `since` is Unix time in seconds since when it is served, or gone; 0.0 if unknown.

    `lease` is its policy. `holder` "" is free; else `lease_id` and `end` are of the lease. `reason` says why it is
    offline or stuck, `disabled` and `comment` what an admin says of it. `booked_by` has it next, from
    `booked` on.
    """

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    online: bool = False
    state: str = "offline"
    host: str = ""
    since: float = 0.0
    lease: str = "if-held"
    holder: str = ""
    co_holders: list[str] = field(default_factory=list)
    lease_id: str = ""
    end: float = 0.0
    reason: str = ""
    disabled: bool = False
    comment: str = ""
    booked: float = 0.0
    booked_by: str = ""
    drivers: int = 0
    version: str = ""

    @property
    def free(self) -> bool:
        """It would be granted at once."""
        return self.state == "available" and not self.disabled and not self.holder


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseInfo:
    """A lease, or a booking of one. Times are Unix seconds in the broker's clock; `end` 0.0 is no end.

    `state` is booked, preparing, active, or offline while one of its exporters is; `remaining` seconds are left of it,
    None without an end; `epoch` is that of its first exporter.
    """

    id: str
    state: str
    holder: str
    boards: list[str]
    begin: float
    end: float
    remaining: float | None
    co_holders: list[str] = field(default_factory=list)
    tether: float = 0.0
    epoch: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitInfo:
    """Somebody who waits. `position` counts from 1.

    `start` is when the lease begins at the latest, in Unix seconds, and `waits` how long that still is; None if nobody
    knows.
    """

    id: str
    user: str
    selectors: list[str]
    position: int
    start: float | None
    waits: float | None
    duration: float
    priority: int = 0
    asked: float = 0.0
    until: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Records by exporter or id. `trees` are the maps that they are: records of the nodes double the time of a list."""

    trees: Mapping[str, dict[str, Any]]
    presence: Mapping[str, PresenceRecord]
    leases: Mapping[str, LeaseRecord]
    waiting: Mapping[str, QueueRecord]
    bookings: Mapping[str, BookingRecord]
    notes: Mapping[str, ExporterNote]
    now: float

    @classmethod
    def of(
        cls, trees: Mapping[str, bytes], presence: Mapping[str, bytes], lab: Mapping[str, Record], now: float
    ) -> Snapshot:
        """Read the records; the keys of `lab` are those of the bucket, `lease.bench-1`."""
        kinds: dict[str, dict[str, Record]] = {"lease": {}, "queue": {}, "booking": {}, "exporter": {}}
        for key, record in lab.items():
            kind, _, name = key.partition(".")
            if record.body and kind in kinds:
                kinds[kind][name] = record
        return cls(
            trees={name: decode_json(body) for name, body in trees.items()},
            presence={name: PresenceRecord.decode(body) for name, body in presence.items()},
            leases={name: LeaseRecord.decode(each.body).at(each.revision) for name, each in kinds["lease"].items()},
            waiting={name: QueueRecord.decode(each.body).at(each.revision) for name, each in kinds["queue"].items()},
            bookings={name: BookingRecord.decode(each.body) for name, each in kinds["booking"].items()},
            notes={name: ExporterNote.decode(each.body) for name, each in kinds["exporter"].items()},
            now=now,
        )

    def cut_off(self, reason: str, since: float) -> Snapshot:
        """The same when none of its exporters can be reached, for that reason since then."""
        gone = PresenceRecord(instance="", state="offline", reason=reason, since=since)
        return replace(self, presence=dict.fromkeys(self.trees, gone))

    def exporters(self) -> list[ExporterInfo]:
        """All that ever joined, by name."""
        booked: dict[str, BookingRecord] = {}
        for booking in sorted(self.bookings.values(), key=lambda each: -each.begin):
            booked.update(dict.fromkeys(booking.boards, booking))
        return [self._exporter(name, self.trees[name], booked.get(name)) for name in sorted(self.trees)]

    def _exporter(self, name: str, tree: dict[str, Any], booking: BookingRecord | None) -> ExporterInfo:
        here, lease, note = self.presence.get(name), self.leases.get(name), self.notes.get(name)
        state = state_of(here, lease)
        return ExporterInfo(
            name=name,
            labels=tree.get("labels", {}),
            online=state != "offline",
            state=state,
            host=here.host if here else "",
            since=here.since if here else 0.0,
            lease=tree.get("lease", "if-held"),
            holder=unescape_user(lease.holder) if lease else "",
            co_holders=[unescape_user(each) for each in lease.co_holders] if lease else [],
            lease_id=lease.id if lease else "",
            end=lease.end if lease else 0.0,
            reason=_reason(here) if here and state in ("offline", "stuck") else "",
            disabled=bool(note and note.disabled),
            comment=note.comment if note else "",
            booked=booking.begin if booking else 0.0,
            booked_by=unescape_user(booking.user) if booking else "",
            drivers=len(tree.get("nodes", ())) - 1,
            version=tree.get("version", ""),
        )

    def held(self) -> list[LeaseInfo]:
        """Leases and bookings, by their begin; each once, however many exporters it has."""
        first: dict[str, LeaseInfo] = {}
        for board in sorted(self.leases):
            lease = self.leases[board]
            first.setdefault(lease.id or board, self._lease(board, lease))
        booked = [self._booking(id_, each) for id_, each in self.bookings.items()]
        return sorted([*first.values(), *booked], key=lambda each: (each.begin, each.id))

    def _lease(self, board: str, lease: LeaseRecord) -> LeaseInfo:
        boards = lease.boards or [board]
        states = {state_of(self.presence.get(each), self.leases.get(each)) for each in boards}
        return LeaseInfo(
            id=lease.id,
            state="active" if states == {"leased"} else "preparing" if "offline" not in states else "offline",
            holder=unescape_user(lease.holder),
            boards=boards,
            begin=lease.begin,
            end=lease.end,
            remaining=max(0.0, lease.end - self.now) if lease.end else None,
            co_holders=[unescape_user(each) for each in lease.co_holders],
            tether=lease.tether,
            epoch=lease.epoch,
            note=lease.note,
        )

    def _booking(self, id_: str, booking: BookingRecord) -> LeaseInfo:
        return LeaseInfo(
            id=id_,
            state="booked",
            holder=unescape_user(booking.user),
            boards=booking.boards,
            begin=booking.begin,
            end=booking.end,
            remaining=booking.end - max(booking.begin, self.now),
            note=booking.note,
        )

    def queue(self) -> list[WaitInfo]:
        """All who wait, in the order in which they are served."""
        waiting = [Waiting(id=id_, record=record) for id_, record in self.waiting.items()]
        found = forecast(self.boards(), waiting, list(self.bookings.values()), self.now)
        ordered = sorted(waiting, key=lambda each: each.order)
        return [self._wait(each, found[each.id].position, found[each.id].start) for each in ordered]

    def _wait(self, each: Waiting, position: int, start: float | None) -> WaitInfo:
        record = each.record
        return WaitInfo(
            id=each.id,
            user=unescape_user(record.user),
            selectors=record.selectors,
            position=position,
            start=start,
            waits=None if start is None else max(0.0, start - self.now),
            duration=record.duration,
            priority=record.priority,
            asked=record.asked,
            until=record.until,
            note=record.note,
        )

    def matches(self, exporter: str, selector: str) -> bool:
        """Say whether a selector means it."""
        labels = self.trees[exporter].get("labels", {})
        return Selector.parse(selector).matches({"name": exporter, **labels})

    def boards(self) -> list[Board]:
        """The exporters as the plan of the scheduler sees them."""
        return [
            Board(
                name=name,
                labels=tree.get("labels", {}),
                state=state_of(self.presence.get(name), self.leases.get(name)),
                disabled=name in self.notes and self.notes[name].disabled,
                lease=self.leases.get(name),
            )
            for name, tree in self.trees.items()
        ]


def _reason(here: PresenceRecord) -> str:
    return "starting" if here.state == "starting" else here.reason


def state_of(here: PresenceRecord | None, lease: LeaseRecord | None) -> str:
    """What an exporter is doing: what it says itself, unless the lease record is newer than that."""
    if here is None or here.state == "starting":
        return "offline"
    if lease and here.state == "available":
        return "ending" if lease.epoch and here.ended >= lease.epoch else "preparing"
    if here.state == "leased" and (lease is None or here.epoch != lease.epoch):
        return "ending"
    return here.state
