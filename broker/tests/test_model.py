"""Two schedulers that hear of everything late, random users, exporters and outages, on a store in memory: what must
hold after every step, and that the lab comes to rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from jsnats.broker import _ledger
from jsnats.broker._clocks import Heard
from jsnats.broker._desk import Desk
from jsnats.broker._lab_state import LabState
from jsnats.broker._ledger import Ledger
from jsnats.broker._outbox import Outbox
from jsnats.broker._over import Over
from jsnats.broker._policy import PolicyFile
from jsnats.broker._scheduler import Scheduler
from jsnats.schemas import (
    BookingRecord,
    CallError,
    LeaseEnd,
    LeaseRecord,
    PresenceRecord,
    QueueRecord,
    TreeRecord,
    booking_key,
    lease_key,
    presence_key,
    queue_key,
    tree_key,
)
from jsnats.sdk import Conflict, Mirror, Record, Write

BOARDS = ("a", "b", "c")
USERS = ("ann", "bob")
IDS = [f"{number:016x}" for number in range(6)]
LAST = [f"{number:016x}" for number in range(6, 10)]
START = 1_000_000.0
CLOCKS = 200.0


class Store:
    """The broker: records with compare-and-set, and all that was ever written, in order."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.written: list[tuple[str, Record]] = []

    def write(self, writes: Sequence[Write]) -> list[int]:
        """All or none."""
        for each in writes:
            found = self.records.get(each.subject)
            if each.expect is not None and each.expect != (found.revision if found else 0):
                raise Conflict(each.subject)
        return [self.put(each.subject, each.body, delete=each.delete) for each in writes]

    def put(self, subject: str, body: bytes, *, delete: bool = False) -> int:
        """One, whatever is there. Nobody's lease is ever written over that of another."""
        revision = len(self.written) + 1
        record = Record(b"", revision, body) if delete else Record(body, revision)
        before = self.records.get(subject)
        if subject.startswith(lease_key("")) and before and before.body and body and not delete:
            assert LeaseRecord.decode(before.body).id == LeaseRecord.decode(body).id, "two holders"
        self.records[subject] = record
        self.written.append((subject, record))
        return revision

    def lease(self, board: str) -> LeaseRecord | None:
        """That of a board."""
        found = self.records.get(lease_key(board))
        return LeaseRecord.decode(found.body).at(found.revision) if found and found.body else None


class LateLedger(Ledger):
    """What it has written or read itself it waits for; of the rest it hears when the test says so."""

    def __init__(self, world: World, mirror: Mirror) -> None:
        super().__init__(world, mirror)  # type: ignore[arg-type]
        self.world = world

    async def caught_up(self) -> None:
        self.world.deliver(self.mirror, self._last)


class Service:
    """One scheduler."""

    def __init__(self, world: World) -> None:
        self.lab = LabState()
        self.mirror = Mirror(None, "", "", self.lab.take)  # type: ignore[arg-type]
        self.mirror.now = lambda: START + world.time  # type: ignore[method-assign]
        ledger, self.outbox = LateLedger(world, self.mirror), Outbox(None)  # type: ignore[arg-type]
        self.scheduler = Scheduler(self.lab, [], ledger, self.outbox)
        self.scheduler.over = Over(self.lab, self.mirror.now, Heard(lambda: world.time))
        desk = Desk(self.lab, ledger, self.scheduler, self.outbox, PolicyFile(None))
        self.verbs = desk.verbs()

    async def look(self) -> None:
        """A pass, as `run` makes it."""
        self.scheduler._booking_left_s()
        await self.scheduler._work()


class World:
    """Everything. `lost` answers are still to be lost: of what was stored (True), or was not."""

    def __init__(self) -> None:
        self.time = 0.0
        self.lost: list[bool] = []
        self.store = Store()
        self.asked: set[str] = set()
        self.services = [Service(self), Service(self)]
        self.says = {board: PresenceRecord(instance=board) for board in BOARDS}
        for board in BOARDS:
            self.store.put(tree_key(board), TreeRecord(name=board, instance=board, nodes=[]).encode())
            self.say(board)
        for each in self.services:
            self.deliver(each.mirror)

    # ------------------------------------------------------------------ the broker

    async def put_records(self, _: object, writes: Sequence[Write]) -> list[int]:
        """As that of the SDK."""
        if not self.lost:
            return self.store.write(writes)
        if self.lost.pop():
            self.store.write(writes)
        raise TimeoutError

    async def last_record(self, _: object, __: str, subject: str) -> Record | None:
        """As that of the SDK."""
        return self.store.records.get(subject)

    def deliver(self, mirror: Mirror, upto: int | None = None) -> None:
        """A mirror hears of what was written, up to a revision."""
        for subject, record in self.store.written[mirror.seen : upto]:
            mirror.seen = record.revision
            mirror.apply(subject, record)

    # ------------------------------------------------------------------ the steps

    async def ask(self, which: int, who: str, verb: str, id_: str, **fields: Any) -> None:
        """Of a scheduler; it may refuse."""
        with suppress(CallError):
            await self.services[which].verbs[verb](who, {"id": id_, **fields})
            if verb == "create":
                self.asked.add(id_)

    def say(self, board: str, **changes: Any) -> None:
        """An exporter says what it does."""
        self.says[board] = PresenceRecord(**{"instance": board, "ended": self.says[board].ended, **changes})
        self.store.put(presence_key(board), self.says[board].encode())

    def agent(self, board: str, *, itself: bool = False) -> None:
        """An exporter takes the next step of its own; `itself` ends what it has."""
        said, lease = self.says[board], self.store.lease(board)
        if said.state == "offline":
            self.say(board, state=said.before, epoch=said.epoch)
        elif said.state == "available":
            if lease and lease.epoch != said.ended:
                self.say(board, state="preparing", epoch=lease.epoch)
        elif said.state == "ending":
            self.say(board, ended=said.epoch)
        elif itself or not lease or lease.epoch != said.epoch:
            self.say(board, state="ending", epoch=said.epoch)
        elif said.state == "preparing":
            self.say(board, state="leased", epoch=said.epoch)

    def kill(self, board: str) -> None:
        """An exporter is gone."""
        said = self.says[board]
        if said.state != "offline":
            self.say(board, state="offline", before=said.state, epoch=said.epoch)

    # ------------------------------------------------------------------ what must hold

    def check(self) -> None:
        """Who asked waits, has a booking, holds, or has been told the end of it: one of those. Nothing overlaps."""
        leases = {board: lease for board in BOARDS if (lease := self.store.lease(board))}
        for lease in leases.values():
            assert {board for board, each in leases.items() if each.id == lease.id} == set(lease.boards)
        bookings = {id_: found for id_ in IDS if (found := self.booking(id_))}
        for id_ in self.asked:
            waits = self.waits(id_) is not None
            held = any(lease.id == id_ for lease in leases.values())
            assert waits + (id_ in bookings) + held <= 1
            if not (waits or held or id_ in bookings):
                assert self.ends(id_), "forgotten"
        for id_, one in bookings.items():
            for board in one.boards:
                lease = leases.get(board)
                assert not lease or lease.end <= one.begin or one.end <= lease.begin
                for other_id, other in bookings.items():
                    apart = other.end <= one.begin or one.end <= other.begin
                    assert id_ == other_id or apart or board not in other.boards

    def waits(self, id_: str) -> QueueRecord | None:
        """The place in the queue."""
        found = self.store.records.get(queue_key(id_))
        return QueueRecord.decode(found.body).at(found.revision) if found and found.body else None

    def booking(self, id_: str) -> BookingRecord | None:
        """The booking."""
        found = self.store.records.get(booking_key(id_))
        return BookingRecord.decode(found.body) if found and found.body else None

    def ends(self, id_: str) -> list[LeaseEnd]:
        """What was said when the wait or booking ended."""
        found = [self.store.records.get(key(id_)) for key in (queue_key, booking_key)]
        return [LeaseEnd.decode(each.end) for each in found if each and each.end]

    async def rest(self) -> None:
        """All exporters are there and nobody asks for anything: everybody who waits has his turn, in order."""
        self.lost.clear()
        for number, id_ in enumerate(LAST):
            await self.ask(number % 2, "ann", "create", id_, selectors=["name=a"], duration=50, priority=number % 3)
        begin = len(self.store.written)
        queue = {id_: found for id_ in (*IDS, *LAST) if (found := self.waits(id_))}
        for _ in range(80):
            self.time += CLOCKS
            for each in self.services:
                self.deliver(each.mirror)
                await each.look()
                self.check()
            for board in BOARDS:
                self.agent(board)
        written = [subject for subject, record in self.store.written[begin:] if b"granted" in record.end]
        granted = [found for subject in written for id_, found in queue.items() if subject == queue_key(id_)]
        for earlier, later in combinations(granted, 2):
            if (earlier.selectors, earlier.duration) == (later.selectors, later.duration):
                assert (-earlier.priority, earlier.arrival) < (-later.priority, later.arrival), "overtaken"
        assert all(queue[id_] in granted for id_ in LAST)
        assert {said.state for said in self.says.values()} == {"available"}
        assert not [board for board in BOARDS if self.store.lease(board)]
        assert not [id_ for id_ in queue if self.waits(id_) or self.booking(id_)]


WHICH, WHO, ID, BOARD = st.integers(0, 1), st.sampled_from(USERS), st.sampled_from(IDS), st.sampled_from(BOARDS)
SELECTORS = st.lists(st.sampled_from(["", "name=a", "name=b", "name in (b, c)"]), min_size=1, max_size=3)
WANTED = st.fixed_dictionaries(
    {"selectors": SELECTORS, "duration": st.sampled_from([50.0, 500.0])},
    optional={
        "priority": st.integers(0, 2),
        "tether": st.just(30.0),
        "wait": st.sampled_from([0.0, 100.0]),
        "begin": st.sampled_from([START + 300.0, START + 900.0]),
    },
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), WHICH, WHO, ID, WANTED),
        st.tuples(st.sampled_from(["renew", "release"]), WHICH, WHO, ID, st.just({})),
        st.tuples(
            st.just("extend"),
            WHICH,
            WHO,
            ID,
            st.fixed_dictionaries({"end": st.sampled_from([START + 200, START + 2000])}),
        ),
        st.tuples(st.just("transfer"), WHICH, WHO, ID, st.fixed_dictionaries({"to": WHO})),
        st.tuples(st.sampled_from(["look", "hear", "look and hear"]), WHICH),
        st.tuples(st.sampled_from(["agent", "end itself", "kill"]), BOARD),
        st.tuples(st.just("time"), st.sampled_from([1.0, 20.0, CLOCKS])),
        st.tuples(st.just("lose"), st.booleans()),
    ),
    max_size=60,
)


async def take(world: World, step: tuple[Any, ...]) -> None:
    """One step of all that can happen."""
    what, which = step[0], step[1]
    if what == "time":
        world.time += which
    elif what == "lose":
        world.lost.append(which)
    elif what == "agent":
        world.agent(which)
    elif what == "end itself":
        world.agent(which, itself=True)
    elif what == "kill":
        world.kill(which)
    elif len(step) == 2:
        if what != "look":
            world.deliver(world.services[which].mirror)
        if what != "hear":
            await world.services[which].look()
    else:
        await world.ask(which, step[2], what, step[3], **step[4])


async def play(steps: list[tuple[Any, ...]]) -> None:
    """Take the steps, then let the lab come to rest."""
    world = World()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ledger, "put_records", world.put_records)
        patch.setattr(_ledger, "leader_record", world.last_record)
        for step in steps:
            await take(world, step)
            world.check()
        await world.rest()


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_never_two_holders_and_nobody_forgotten(steps: list[tuple[Any, ...]]) -> None:
    """Whatever happens in whatever order, and however late each scheduler hears of it."""
    asyncio.run(play(steps))


def test_a_booking_that_another_scheduler_made_meanwhile() -> None:
    """A wait that was to be granted conflicts with it, and is not granted into it the second time either."""
    waits = ("create", 0, "ann", IDS[0], {"selectors": [""], "duration": 500.0})
    books = ("create", 1, "ann", IDS[1], {"selectors": [""], "duration": 50.0, "begin": START + 300.0})
    asyncio.run(play([waits, books, ("look", 0)]))
