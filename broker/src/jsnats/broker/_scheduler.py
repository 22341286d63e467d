"""The scheduler: grants exporters to who waits, ends what is over. The only writer of leases, and stateless.

Everything it knows stands in the lab's records, which it mirrors; everything it does is one atomic batch that expects
the records to be as they were when it was decided. So any number of schedulers may work at once, each on everything:
the slower one finds a conflict, looks again, and goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass

from jsnats.schemas import (
    BookingRecord,
    BrokerError,
    Grant,
    LeaseEnd,
    LeaseRecord,
    QueueRecord,
    plan_grants,
)
from jsnats.sdk import ApiError, Conflict, Mirror, Record

from ._lab_state import BOOKING, LEASE, QUEUE, Kind, LabState
from ._ledger import Change, Ledger, deletions
from ._outbox import Outbox
from ._over import Over

log = logging.getLogger("jsnats.scheduler")

TICK_S = 1.0
STALL_S = 5.0
RETRY_S = 0.1
MAX_AT_ONCE = 16
"""Grants that travel in one batch. nats-server 2.15 makes a store of files for each batch: 20 ms on a loaded machine,
however many records are in it, and one batch after the other; a single record takes 0.6 ms."""


class Scheduler:
    """Works on `lab`, which the `mirrors` feed; `ledger` writes what is decided and `outbox` tells of it."""

    def __init__(self, lab: LabState, mirrors: Sequence[Mirror], ledger: Ledger, outbox: Outbox) -> None:
        self._lab = lab
        self._mirrors = mirrors
        self._ledger = ledger
        self._outbox = outbox
        self.over = Over(lab, ledger.mirror.now)
        self._wake = asyncio.Event()
        self._plan = True
        self._bookings_at = 0.0
        self._syncs = 0
        self._seen_at = time.monotonic()
        lab.told.append(self._changed)

    async def run(self) -> None:
        """Schedule until cancelled, however long the broker is away."""
        while True:
            try:
                await self._look_around()
                await self._work()
            except (BrokerError, TimeoutError) as error:
                log.info("scheduling waits for the broker: %s", error)
                self._plan = True
                await asyncio.sleep(RETRY_S)
            except Exception:  # whatever stands in the records, the next pass is another try
                log.exception("a pass of the scheduler failed")
                self._plan = True
                await asyncio.sleep(TICK_S)
            await self._pause()

    def _changed(self, kind: Kind, name: str, record: Record) -> None:
        # A lease that is granted or renewed frees nothing; in a big lab there are hundreds of those in a second.
        self._plan = self._plan or kind is not LEASE or not record.body
        self._wake.set()

    # ------------------------------------------------------------------ when

    async def _look_around(self) -> None:
        """Wait for the mirrors to be right. After an outage, of the broker or of ourselves, tethers begin anew."""
        for mirror in self._mirrors:
            await mirror.synced.wait()
        syncs = sum(mirror.syncs for mirror in self._mirrors)
        now = time.monotonic()
        if syncs != self._syncs or now - self._seen_at > STALL_S:
            self.over.begin_anew()
            self._plan = True
        self._syncs, self._seen_at = syncs, now

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(min(TICK_S, self.over.left_s(), self._booking_left_s())):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _booking_left_s(self) -> float:
        now, looked = self._now(), self._bookings_at  # what has passed since then is due, however long a pass took
        times = (at for each in self._lab.bookings.values() for at in (each.begin, each.end) if at > looked)
        left = min(times, default=now + TICK_S) - now
        if left < TICK_S:
            self._plan = True
        return left

    def _now(self) -> float:
        return self._ledger.mirror.now()

    # ------------------------------------------------------------------ what

    async def _work(self) -> None:
        self._wake.clear()
        over = list(self.over.found())
        for kind, exporter, reason in over:
            if kind is LEASE:
                await self._or_look_again(self._end_lease(exporter, reason))
        if self._plan:
            await self._ledger.caught_up()
            self._plan = False
            await self._begin_bookings()
            await self._grant()
        for kind, id_, reason in over:
            if kind is QUEUE:
                await self._or_look_again(self._give_up_wait(id_, reason))

    async def _or_look_again(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Conflict as error:
            log.debug("somebody else was faster: %s", error)
            self._plan = True
            self._wake.set()
        except ApiError as error:
            log.warning("the broker refused what the scheduler wrote: %s", error)
            self._plan = True  # with the next tick
        except (BrokerError, TimeoutError):
            raise
        except Exception:  # whatever is wrong with one of them, the others must not wait for it
            log.exception("a step of the scheduler failed")

    # ------------------------------------------------------------------ leases end

    async def _end_lease(self, exporter: str, reason: str) -> None:
        lease = self._lab.leases.get(exporter)
        if lease:
            await self.end(lease.id, reason)

    async def end(self, id_: str, reason: str, by: str = "") -> None:
        """End a lease on all of its exporters. Raises Conflict, BrokerError."""
        held = self._lab.held(id_)
        if not held:
            return
        subjects = [LEASE.key(name) for name in held]
        await self._ledger.write(*deletions(subjects, LeaseEnd(reason=reason, by=by)))
        now = self._now()
        for name, lease in held.items():
            self._outbox.put(
                "lease.ended",
                name,
                time=now,
                id=id_,
                holder=lease.holder,
                epoch=lease.epoch,
                reason=reason,
                by=by,
                held=round(now - lease.begin, 3),
            )

    async def _give_up_wait(self, id_: str, reason: str) -> None:
        if id_ in self._lab.queue:
            await self.give_up(QUEUE, id_, self._lab.queue[id_].record.user, reason)

    async def give_up(self, kind: Kind, id_: str, user: str, reason: str, by: str = "") -> None:
        """End a wait or a booking. Raises Conflict, BrokerError."""
        await self._ledger.write(Change(kind.key(id_), LeaseEnd(reason=reason, by=by)))
        self._outbox.put("lease.given-up", time=self._now(), id=id_, user=user, reason=reason, by=by)

    # ------------------------------------------------------------------ leases begin

    async def _begin_bookings(self) -> None:
        self._bookings_at = now = self._now()
        for id_, booking in list(self._lab.bookings.items()):
            if booking.end <= now:
                await self._or_look_again(self.give_up(BOOKING, id_, booking.user, self._why_not(booking)))
            elif booking.begin <= now:
                await self._or_look_again(self._begin(id_, booking))

    def _why_not(self, booking: BookingRecord) -> str:
        boards = [self._lab.boards.get(name) for name in booking.boards]
        states = {name: board.state if board else "gone" for name, board in zip(booking.boards, boards, strict=True)}
        told = [f"{name} is {state}" for name, state in states.items() if not self._is_free(name)]
        return f"its time has passed: {', '.join(told)}" if told else "its time has passed"

    async def _begin(self, id_: str, booking: BookingRecord) -> None:
        if self._lab.bookings.get(id_) is not booking or not all(self._is_free(name) for name in booking.boards):
            return
        lease = LeaseRecord(
            holder=booking.user,
            id=id_,
            begin=self._now(),
            end=booking.end,
            boards=list(booking.boards),
            note=booking.note,
        )
        await self._hand_over([_HandOver(BOOKING, id_, lease, waited=0.0)])

    async def _grant(self) -> None:
        if not self._lab.queue or not self._lab.free:
            return
        plan = plan_grants(
            self._lab.wanted(),
            self._lab.queue.values(),
            self._lab.bookings.values(),
            self._now(),
            self._lab.fits,
        )
        for begin in range(0, len(plan), MAX_AT_ONCE):
            await self._grant_some(plan[begin : begin + MAX_AT_ONCE])

    async def _grant_some(self, plan: Sequence[Grant]) -> None:
        """All in one batch; if one of them has a conflict, each in its own."""
        try:
            await self._hand_over(self._still_right(plan))
        except (Conflict, ApiError):
            for each in plan:
                await self._or_look_again(self._hand_over(self._still_right([each])))

    def _still_right(self, plan: Iterable[Grant]) -> list[_HandOver]:
        """What of it can still be granted: others write while a grant is on its way, so look again each time."""
        found: list[_HandOver] = []
        now = self._now()
        for each in plan:
            waiting = self._lab.queue.get(each.id)
            if waiting is None or not all(self._can_be_had(name, now, waiting.record) for name in each.boards):
                self._plan = True
                self._wake.set()
                continue
            wanted = waiting.record
            lease = LeaseRecord(
                holder=wanted.user,
                id=each.id,
                begin=now,
                end=now + wanted.duration,
                tether=wanted.tether,
                boards=list(each.boards),
                note=wanted.note,
            )
            found.append(_HandOver(QUEUE, each.id, lease, waited=now - wanted.asked))
        return found

    def _is_free(self, name: str) -> bool:
        return name in self._lab.free

    def _can_be_had(self, name: str, now: float, wanted: QueueRecord) -> bool:
        end = now + wanted.duration
        booked = any(each.begin < end and now < each.end for each in self._lab.bookings_of(name))
        return self._is_free(name) and not booked

    async def _hand_over(self, some: Sequence[_HandOver]) -> None:
        """Waits and bookings become leases, all of them on all of their exporters, or none. Raises Conflict."""
        if not some:
            return
        revisions = iter(await self._ledger.write(*(change for each in some for change in each.changes())))
        for each in some:
            next(revisions)  # that of the deletion
            for name in each.lease.boards:
                self._tell_granted(name, next(revisions), each)

    def _tell_granted(self, name: str, epoch: int, what: _HandOver) -> None:
        lease = what.lease
        self._outbox.put(
            "lease.granted",
            name,
            time=lease.begin,
            id=what.id,
            holder=lease.holder,
            epoch=epoch,
            end=lease.end,
            boards=lease.boards,
            waited=round(what.waited, 3),
        )


@dataclass(frozen=True, slots=True)
class _HandOver:
    """A queue entry or a booking becomes a lease."""

    kind: Kind
    id: str
    lease: LeaseRecord
    waited: float

    def changes(self) -> list[Change]:
        """Its own record is deleted, and one written for each exporter."""
        gone = Change(self.kind.key(self.id), LeaseEnd(reason="granted", boards=self.lease.boards))
        return [gone, *(Change(LEASE.key(name), self.lease) for name in self.lease.boards)]
