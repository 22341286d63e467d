"""Who gets which exporter, and when: pure functions over what the lab's records say.

The scheduler grants what `grants` says; `forecast` tells everybody who waits where he stands, from the same records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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


Fitting = Callable[[str], Collection[str]]
"""The names of all exporters that a selector means. What it returns is asked `in` often: better a set or a map."""


def fitting(boards: Iterable[Board]) -> Fitting:
    """Looks through the boards once for each selector."""
    known = list(boards)

    @lru_cache(None)
    def names(selector: str) -> Collection[str]:
        return {board.name: None for board in known if board.matches(selector)}

    return names


def grants(
    boards: Iterable[Board],
    queue: Iterable[Waiting],
    bookings: Collection[BookingRecord],
    now: float,
    fits: Fitting | None = None,
) -> list[Grant]:
    """What can be granted at `now`, in the order in which it must be. `fits` is `fitting(boards)`, if that is known.

    Who comes first and needs several exporters keeps those that are free already, if the others will be: nobody who
    came later overtakes him for long, and nobody starves.
    """
    there = {board.name: board for board in boards if board.usable}
    free = {name: None for name, board in there.items() if board.free}
    fits = fits or fitting(there.values())
    may_come = _attainable(fits, there)
    booked = _Booked(bookings)
    found: list[Grant] = []
    for each in sorted(queue, key=lambda waiting: waiting.order):
        if not free:
            break
        end = now + each.record.duration
        selectors = tuple(each.record.selectors)
        chosen = choose(selectors, lambda selector: booked.keep(_both(free, fits(selector)), now, end))  # noqa: B023
        if None not in chosen:
            found.append(Grant(each.id, tuple(name for name in chosen if name)))
        elif not may_come(selectors):
            continue  # what is missing may never come back: he keeps nothing from others
        for name in chosen:
            if name:
                del free[name]
    return found


def _attainable(fits: Fitting, there: Mapping[str, object]) -> Callable[[tuple[str, ...]], bool]:
    """Say whether those who are there could serve all of the selectors, sooner or later."""

    @lru_cache(None)
    def attainable(selectors: tuple[str, ...]) -> bool:
        return None not in choose(selectors, lambda selector: _both(there, fits(selector)))

    return attainable


def _both(some: Mapping[str, object], others: Collection[str]) -> Iterator[str]:
    """Names that are in both, found from the shorter side: with thousands of exporters few are free, or few fit."""
    if len(some) < len(others):
        return (name for name in some if name in others)
    return (name for name in others if name in some)


class _Booked:
    """Who has which exporter when."""

    def __init__(self, bookings: Iterable[BookingRecord]) -> None:
        self._times: dict[str, list[tuple[float, float]]] = {}
        for each in bookings:
            for name in each.boards:
                self._times.setdefault(name, []).append((each.begin, each.end))

    def keep(self, names: Iterable[str], now: float, end: float) -> Iterator[str]:
        """Those of the names whose lease from `now` to `end` would run into no booking."""
        for name in names:
            if not any(begin < end and now < last for begin, last in self._times.get(name, ())):
                yield name


def assign(selectors: Sequence[str], boards: Collection[Board]) -> list[str | None]:
    """A different exporter for each selector, None where there is none left; as many as possible get one."""
    return choose(selectors, fitting(boards))


def choose(selectors: Sequence[str], names: Callable[[str], Iterable[str]]) -> list[str | None]:
    """As `assign`, of the exporters that `names` gives for each selector.

    Kuhn's augmenting paths: H. W. Kuhn, "The Hungarian Method for the assignment problem", 1955.
    """
    taken: dict[str, int] = {}

    def place(index: int, seen: set[str]) -> bool:
        for name in names(selectors[index]):
            if name in seen:
                continue
            seen.add(name)
            if name not in taken or place(taken[name], seen):
                taken[name] = index
                return True
        return False

    for index in range(len(selectors)):
        place(index, set())
    chosen: list[str | None] = [None] * len(selectors)
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
    meaning, fits = fitting(boards), fitting(usable)
    for each in sorted(queue, key=lambda waiting: waiting.order):
        meant = {name for selector in each.record.selectors for name in meaning(selector)}
        start = _soonest(each.record, fits, free_at)
        position = 1 + sum(1 for others in ahead if not others.isdisjoint(meant))
        found[each.id] = Forecast(position, None if start == inf else start)
        ahead.append(meant)
    return found


def _free_at(board: Board, bookings: Collection[BookingRecord], now: float) -> float:
    ends = [each.end for each in bookings if board.name in each.boards and each.begin <= now]
    if board.lease:
        ends.append(board.lease.end or inf)
    return max([now, *ends])


def _soonest(record: QueueRecord, fits: Fitting, free_at: dict[str, float]) -> float:
    """When the entry gets what it wants, each selector the exporter that is free first; takes them until its end."""
    chosen: list[str] = []
    by_choice = sorted(record.selectors, key=lambda selector: len(fits(selector)))
    for selector in by_choice:
        names = [name for name in fits(selector) if name not in chosen]
        if not names:
            return inf
        chosen.append(min(names, key=lambda name: free_at[name]))
    start = max(free_at[name] for name in chosen)
    free_at.update(dict.fromkeys(chosen, start + record.duration))
    return start
