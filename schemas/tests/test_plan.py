"""Who gets which exporter."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, strategies as st

from jsnats.schemas import Board, BookingRecord, LeaseRecord, QueueRecord, Waiting, assign, forecast, plan_grants

NOW = 1000.0


def board(name: str, kind: str = "rpi4", *, until: float | None = None, **more: Any) -> Board:
    """An exporter; with `until`, held until then."""
    lease = LeaseRecord(holder="mallory", end=until) if until is not None else None
    return Board(name=name, labels={"board": kind}, lease=lease, state="leased" if lease else "available", **more)


def waits(id_: str, arrival: int, *selectors: str, duration: float = 60.0, priority: int = 0) -> Waiting:
    """A queue entry."""
    wanted = list(selectors or ["board=rpi4"])
    record = QueueRecord(user=id_, selectors=wanted, duration=duration, priority=priority, arrival=arrival)
    return Waiting(id=id_, record=record)


def granted(boards: list[Board], queue: list[Waiting], bookings: list[BookingRecord] | None = None) -> dict[str, Any]:
    """What is granted, by id."""
    return {each.id: each.boards for each in plan_grants(boards, queue, bookings or [], NOW)}


def test_priority_then_arrival() -> None:
    """The one exporter goes to the highest priority, and among equals to who came first."""
    queue = [waits("late", 3), waits("early", 1), waits("urgent", 4, priority=5), waits("urgent2", 5, priority=5)]
    assert granted([board("a")], queue) == {"urgent": ("a",)}
    assert granted([board("a"), board("b"), board("c")], queue) == {
        "urgent": ("a",),
        "urgent2": ("b",),
        "early": ("c",),
    }


def test_what_cannot_be_granted() -> None:
    """An exporter that is held, offline, stuck, tearing down or disabled is not granted."""
    for kept in (
        board("a", until=2000.0),
        Board(name="a", labels={"board": "rpi4"}, state="offline"),
        Board(name="a", labels={"board": "rpi4"}, state="stuck"),
        Board(name="a", labels={"board": "rpi4"}, state="ending"),
        board("a", disabled=True),
    ):
        assert granted([kept], [waits("ann", 1)]) == {}


def test_selectors_know_the_name() -> None:
    """An exporter is found by its name as by any label."""
    assert granted([board("a"), board("b")], [waits("ann", 1, "name=b")]) == {"ann": ("b",)}


def test_all_or_nothing() -> None:
    """Who wants two gets two or none; what is free is kept for him while the other will be, and not if it may not."""
    pair = waits("pair", 1, "name=a", "name=b")
    assert granted([board("a"), board("b")], [pair]) == {"pair": ("a", "b")}
    late = waits("late", 2, "name=a")
    assert granted([board("a"), board("b", until=2000.0)], [pair, late]) == {}
    offline = Board(name="b", labels={"board": "rpi4"}, state="offline")
    assert granted([board("a"), offline], [pair, late]) == {"late": ("a",)}


def test_one_exporter_serves_one_selector() -> None:
    """Two alike selectors need two exporters, and a picky one is not robbed by one that takes anything."""
    assert assign(["board=rpi4", "board=rpi4"], [board("a")]).count("a") == 1
    assert assign(["board=rpi4", "name=a"], [board("a"), board("b")]) == ["b", "a"]


def test_a_booking_is_kept_free() -> None:
    """A lease that would run into a booking is not granted; a shorter one is, and so is another exporter."""
    booking = BookingRecord(user="bob", boards=["a"], begin=NOW + 30, end=NOW + 90)
    assert granted([board("a")], [waits("ann", 1, duration=60)], [booking]) == {}
    assert granted([board("a")], [waits("ann", 1, duration=20)], [booking]) == {"ann": ("a",)}
    assert granted([board("a"), board("b")], [waits("ann", 1, duration=60)], [booking]) == {"ann": ("b",)}


def test_forecast() -> None:
    """A waiter is told how many are before him and when at the latest it is his turn."""
    boards = [board("a", until=NOW + 100), board("b", until=NOW + 300), board("x", "imx8")]
    queue = [waits("one", 1), waits("two", 2), waits("three", 3), waits("other", 4, "board=imx8")]
    found = forecast(boards, queue, [], NOW)
    assert [(found[id_].position, found[id_].start) for id_ in ("one", "two", "three", "other")] == [
        (1, NOW + 100),
        (2, NOW + 160),
        (3, NOW + 220),
        (1, NOW),
    ]


def test_a_start_that_nobody_knows() -> None:
    """A lease without an end, or no usable exporter, gives no start."""
    endless = board("a", until=0.0)
    assert forecast([endless], [waits("ann", 1)], [], NOW)["ann"].start is None
    assert forecast([board("a", disabled=True)], [waits("ann", 1)], [], NOW)["ann"].start is None


KINDS = st.sampled_from(["rpi4", "imx8"])
BOARDS = st.lists(st.tuples(KINDS, st.booleans()), min_size=1, max_size=6).map(
    lambda made: [board(f"b{i}", kind, until=2000.0 if held else None) for i, (kind, held) in enumerate(made)]
)
QUEUE = st.lists(st.tuples(st.lists(KINDS, min_size=1, max_size=3), st.integers(0, 2)), max_size=8).map(
    lambda made: [
        waits(f"w{i}", i + 1, *(f"board={kind}" for kind in kinds), priority=priority)
        for i, (kinds, priority) in enumerate(made)
    ]
)


@given(BOARDS, QUEUE)
def test_grants_are_fair(boards: list[Board], queue: list[Waiting]) -> None:
    """Whatever there is: no exporter twice, each fits its selector, and nobody who wants the same and no more than one
    who could not be served was served instead."""
    made = plan_grants(boards, queue, [], NOW)
    names = [name for each in made for name in each.boards]
    assert len(names) == len(set(names))
    free = {each.name: each for each in boards if each.free}
    entries = {each.id: each for each in queue}
    for each in made:
        wanted = entries[each.id].record.selectors
        assert all(free[name].matches(selector) for name, selector in zip(each.boards, wanted, strict=True))
    assert all(a.order <= b.order for a, b in pairwise(entries[each.id] for each in made))
    served = {each.id for each in made}
    for loser in (each for each in queue if each.id not in served):
        for winner in (each for each in queue if each.id in served and each.order > loser.order):
            assert sorted(winner.record.selectors) != sorted(loser.record.selectors)


@given(BOARDS, QUEUE)
def test_nothing_is_left_idle(boards: list[Board], queue: list[Waiting]) -> None:
    """The first in the queue gets what he wants whenever it is free."""
    first = min(queue, key=lambda each: each.order, default=None)
    if first and None not in assign(first.record.selectors, [each for each in boards if each.free]):
        assert first.id in {each.id for each in plan_grants(boards, queue, [], NOW)}
