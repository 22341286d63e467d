"""Who gets which exporter, and when: pure functions over what the lab's records say.

The scheduler grants what `grants` says; `forecast` tells everybody who waits where he stands, from the same records.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf

from ._lease_records import BookingRecord, LeaseRecord, QueueRecord
from ._selector import Selector

USABLE = frozenset({"available", "preparing", "leased", "ending"})
"""States of an exporter that is worth waiting for: it is there, or its present lease will end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """An exporter as the plan sees it. `lease` is None if nobody holds it."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    state: str = "available"
    disabled: bool = False
    lease: LeaseRecord | None = None

    @property
    def usable(self) -> bool:
        """It is there and may be granted, now or when its lease has ended."""
        return self.state in USABLE and not self.disabled

    @property
    def free(self) -> bool:
        """It may be granted now."""
        return self.state == "available" and not self.disabled and self.lease is None

    def matches(self, selector: str) -> bool:
        """Say whether a selector means it; `name` is a label that every exporter has."""
        return _parse(selector).matches({"name": self.name, **self.labels})


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A queue entry with its id; the record has its arrival filled in."""

    id: str
    record: QueueRecord

    @property
    def order(self) -> tuple[int, int]:
        """Priority first, then arrival."""
        return -self.record.priority, self.record.arrival


@dataclass(frozen=True, slots=True)
class Grant:
    """That queue entry gets these exporters, one for each of its selectors, in their order."""

    id: str
    boards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forecast:
    """`position` counts from 1 those who want the same exporters; `start` is Unix time in s, None if nobody knows."""

    position: int
    start: float | None


@lru_cache(4096)
def _parse(selector: str) -> Selector:
    return Selector.parse(selector)


def grants(
    boards: Iterable[Board], queue: Iterable[Waiting], bookings: Collection[BookingRecord], now: float
) -> list[Grant]:
    """What can be granted at `now`, in the order in which it must be.

    Who comes first and needs several exporters keeps those that are free already, if the others will be: nobody who
    came later overtakes him for long, and nobody starves.
    """
    there = [board for board in boards if board.usable]
    free = {board.name: board for board in there if board.free}
    found: list[Grant] = []
    for each in sorted(queue, key=lambda waiting: waiting.order):
        allowed = [board for board in free.values() if not _booked(board, bookings, now, each.record)]
        chosen = assign(each.record.selectors, allowed)
        if None not in chosen:
            found.append(Grant(each.id, tuple(name for name in chosen if name)))
        elif None in assign(each.record.selectors, there):
            continue  # what is missing may never come back: he keeps nothing from others
        for name in chosen:
            if name:
                del free[name]
    return found


def _booked(board: Board, bookings: Collection[BookingRecord], now: float, wanted: QueueRecord) -> bool:
    """A lease from now on would run into a booking of somebody else."""
    end = now + wanted.duration
    return any(board.name in each.boards and each.begin < end and now < each.end for each in bookings)


def assign(selectors: Sequence[str], boards: Collection[Board]) -> list[str | None]:
    """A different exporter for each selector, None where there is none left; as many as possible get one.

    Kuhn's augmenting paths: H. W. Kuhn, "The Hungarian Method for the assignment problem", 1955.
    """
    wanted = [[board.name for board in boards if board.matches(selector)] for selector in selectors]
    taken: dict[str, int] = {}

    def place(index: int, seen: set[str]) -> bool:
        for name in wanted[index]:
            if name in seen:
                continue
            seen.add(name)
            if name not in taken or place(taken[name], seen):
                taken[name] = index
                return True
        return False

    for index in range(len(wanted)):
        place(index, set())
    chosen: list[str | None] = [None] * len(wanted)
    for name, index in taken.items():
        chosen[index] = name
    return chosen


def forecast(
    boards: Collection[Board], queue: Iterable[Waiting], bookings: Collection[BookingRecord], now: float
) -> dict[str, Forecast]:
    """Where each entry stands, by id. The start assumes that leases last until their ends, so it is the latest one."""
    usable = [board for board in boards if board.usable]
    free_at = {board.name: _free_at(board, bookings, now) for board in usable}
    found: dict[str, Forecast] = {}
    ahead: list[set[str]] = []
    for each in sorted(queue, key=lambda waiting: waiting.order):
        selectors = each.record.selectors
        meant = {board.name for board in boards if any(board.matches(selector) for selector in selectors)}
        start = _soonest(each.record, usable, free_at)
        position = 1 + sum(1 for others in ahead if others & meant)
        found[each.id] = Forecast(position, None if start == inf else start)
        ahead.append(meant)
    return found


def _free_at(board: Board, bookings: Collection[BookingRecord], now: float) -> float:
    ends = [each.end for each in bookings if board.name in each.boards and each.begin <= now]
    if board.lease:
        ends.append(board.lease.end or inf)
    return max([now, *ends])


def _soonest(record: QueueRecord, usable: Collection[Board], free_at: dict[str, float]) -> float:
    """When the entry gets what it wants, each selector the exporter that is free first; takes them until its end."""
    chosen: list[str] = []
    by_choice = sorted(record.selectors, key=lambda selector: sum(board.matches(selector) for board in usable))
    for selector in by_choice:
        names = [board.name for board in usable if board.name not in chosen and board.matches(selector)]
        if not names:
            return inf
        chosen.append(min(names, key=lambda name: free_at[name]))
    start = max(free_at[name] for name in chosen)
    free_at.update(dict.fromkeys(chosen, start + record.duration))
    return start
