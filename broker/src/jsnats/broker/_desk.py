"""What is asked about leases: each verb of the table in the section Leases of the protocol.

Every verb decides on what the mirror says and writes one batch. Somebody who was faster makes it decide again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jsnats.schemas import (
    BookingRecord,
    Busy,
    InvalidArgument,
    LeaseEnd,
    LeaseNotFound,
    LeaseRecord,
    NoMatch,
    PolicyDenied,
    QueueRecord,
    choose,
    unescape_user,
)
from jsnats.sdk import Conflict

from . import _ask as ask
from ._lab_state import BOOKING, LEASE, QUEUE, LabState
from ._ledger import Change, Ledger
from ._matches import why_none
from ._outbox import Outbox
from ._policy import PolicyFile
from ._requests import Verb
from ._scheduler import Scheduler

TRIES = 8


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks; an admin may do everything with everybody's leases."""

    token: str
    admin: bool


Work = Callable[[Asker, ask.Fields], Awaitable[dict[str, Any]]]


class Desk:
    """Serves `verbs(admin)`."""

    def __init__(self, lab: LabState, ledger: Ledger, scheduler: Scheduler, outbox: Outbox, policy: PolicyFile) -> None:
        self._lab = lab
        self._ledger = ledger
        self._scheduler = scheduler
        self._outbox = outbox
        self._policy = policy

    def verbs(self, *, admin: bool = False) -> dict[str, Verb]:
        """The verbs of everybody, about one's own leases; of an admin, about everybody's."""
        work: dict[str, Work] = {
            "create": self._create,
            "renew": self._renew,
            "release": self._release,
            "extend": self._extend,
            "share": self._share,
            "transfer": self._transfer,
        }
        return {verb: partial(_again, each, admin) for verb, each in work.items()}

    # ------------------------------------------------------------------ create

    async def _create(self, who: Asker, fields: ask.Fields) -> dict[str, Any]:
        id_ = ask.lease_id(fields)
        wanted = self._wanted(who, fields)
        begin = ask.number(fields, "begin")
        known = await self._known(id_, who)
        if known:
            return known
        self._check_waiting(who)
        if begin:
            return await self._book(id_, wanted, begin)
        chosen = choose(wanted.selectors, self._lab.fits)
        if None in chosen:
            raise NoMatch(self._why_none(wanted.selectors, chosen))
        await self._ledger.write(Change(QUEUE.key(id_), wanted))
        self._tell_waiting("lease.waiting", id_, wanted, selectors=wanted.selectors)
        return {"state": "waiting", "id": id_, "duration": wanted.duration}

    def _wanted(self, who: Asker, fields: ask.Fields) -> QueueRecord:
        limits = self._policy.now().of(who.token)
        duration = ask.number(fields, "duration")
        if duration is None:
            duration = min(limits.default_duration, limits.max_duration)
        if duration <= 0:
            raise InvalidArgument("`duration` is more than 0 seconds")
        priority, now, wait = ask.whole(fields, "priority"), self._now(), ask.number(fields, "wait")
        if not who.admin and duration > limits.max_duration:
            raise PolicyDenied(f"a lease may last {_time(limits.max_duration)} here, not {_time(duration)}")
        if not who.admin and priority > limits.max_priority:
            raise PolicyDenied(f"your priority may be {limits.max_priority} at most, not {priority}")
        return QueueRecord(
            user=who.token,
            selectors=ask.selectors(fields),
            duration=duration,
            priority=priority,
            tether=ask.number(fields, "tether") or 0.0,
            asked=now,
            until=0.0 if wait is None else now + wait,
            note=ask.text(fields, "note"),
        )

    async def _known(self, id_: str, who: Asker) -> dict[str, Any] | None:
        """What has become of a lease that was asked for before; None for a new one.

        One that another scheduler knows and this one does not yet is a conflict later, and then it is known here.
        """
        if self._is_on_record(id_):
            await self._look_for(id_)
        waiting, booking, held = self._lab.queue.get(id_), self._lab.bookings.get(id_), self._lab.held(id_)
        owner = (
            waiting.record.user
            if waiting
            else booking.user
            if booking
            else next((each.holder for each in held.values()), who.token)
        )
        if owner != who.token:
            raise InvalidArgument(f"the id {id_} is somebody else's: choose another")
        if waiting:
            return {"state": "waiting", "id": id_, "duration": waiting.record.duration}
        if booking:
            return {"state": "booked", "id": id_, **_booked(booking)}
        if held:
            first = next(iter(held.values()))
            return {"state": "held", "id": id_, "duration": first.end - first.begin, "boards": first.boards}
        if self._is_on_record(id_):
            return {"state": "ended", "id": id_, "duration": 0.0}
        return None

    def _check_waiting(self, who: Asker) -> None:
        allowed = self._policy.now().of(who.token).max_waiting
        mine = sum(each.record.user == who.token for each in self._lab.queue.values())
        mine += sum(each.user == who.token for each in self._lab.bookings.values())
        if mine >= allowed and not who.admin:
            raise PolicyDenied(f"you wait for {mine} leases already, and may for {allowed}")

    def _why_none(self, selectors: Sequence[str], chosen: Sequence[str | None]) -> str:
        lonely = next(text for text, name in zip(selectors, chosen, strict=True) if name is None)
        fitting = len(self._lab.fits(lonely))
        if fitting:
            return f"{len(selectors)} exporters are wanted, and only {fitting} fit {lonely!r}"
        return why_none(selectors, chosen, self._lab.labels())

    async def _book(self, id_: str, wanted: QueueRecord, begin: float) -> dict[str, Any]:
        if begin <= self._now():
            raise InvalidArgument("`begin` has passed: leave it out for a lease from now on")
        end = begin + wanted.duration
        chosen = choose(wanted.selectors, self._lab.fits)
        if None in chosen:
            raise NoMatch(self._why_none(wanted.selectors, chosen))
        chosen = choose(wanted.selectors, lambda selector: self._unbooked(self._lab.fits(selector), begin, end))
        if None in chosen:
            raise Busy("what fits is booked or held then: choose another time")
        boards = [name for name in chosen if name]
        booking = BookingRecord(
            user=wanted.user, boards=boards, begin=begin, end=end, asked=wanted.asked, note=wanted.note
        )
        # Whoever grants, extends or books one of these boards meanwhile writes the same records: one of us must yield.
        # So must whoever lets the same id wait.
        touched = [self._ledger.touch(key) for key in (QUEUE.key(id_), *map(LEASE.key, boards))]
        await self._ledger.write(Change(BOOKING.key(id_), booking), *touched)
        self._tell_waiting("lease.booked", id_, wanted, boards=boards)
        return {"state": "booked", "id": id_, "duration": wanted.duration, **_booked(booking)}

    def _unbooked(self, names: Sequence[str] | Any, begin: float, end: float) -> list[str]:
        free = [name for name in names if not self._in_the_way(name, begin, end)]
        return sorted(free, key=lambda name: not self._lab.boards[name].usable)

    def _in_the_way(self, name: str, begin: float, end: float) -> bool:
        lease = self._lab.leases.get(name)
        if lease and (not lease.end or lease.end > begin):
            return True
        return any(each.begin < end and begin < each.end for each in self._lab.bookings_of(name))

    def _tell_waiting(self, type_: str, id_: str, wanted: QueueRecord, **where: list[str]) -> None:
        self._outbox.put(
            type_,
            time=wanted.asked,
            id=id_,
            user=wanted.user,
            priority=wanted.priority,
            duration=wanted.duration,
            note=wanted.note,
            **where,
        )

    # ------------------------------------------------------------------ what there is already

    async def _renew(self, who: Asker, fields: ask.Fields) -> dict[str, Any]:
        id_ = ask.lease_id(fields)
        await self._look_for(id_)
        if waiting := self._lab.queue.get(id_):
            _check_owner(id_, waiting.record.user, who)
            if waiting.record.tether:
                await self._ledger.write(Change(QUEUE.key(id_), waiting.record))
            return {"state": "waiting", "boards": [], "end": 0.0}
        if booking := self._lab.bookings.get(id_):
            _check_owner(id_, booking.user, who)
            return {"state": "booked", "boards": booking.boards, "end": booking.end}
        held = self._own(id_, who)
        first = next(iter(held.values()))
        if first.tether:
            await self._rewrite(held)
        return {"state": "held", "boards": first.boards, "end": first.end}

    async def _release(self, who: Asker, fields: ask.Fields) -> dict[str, Any]:
        id_, reason = ask.lease_id(fields), ask.text(fields, "reason") or "released"
        await self._look_for(id_)
        if waiting := self._lab.queue.get(id_):
            _check_owner(id_, waiting.record.user, who)
            await self._scheduler.give_up(QUEUE, id_, waiting.record.user, reason, who.token)
        elif booking := self._lab.bookings.get(id_):
            _check_owner(id_, booking.user, who)
            await self._scheduler.give_up(BOOKING, id_, booking.user, reason, who.token)
        elif self._is_on_record(id_) and not self._lab.held(id_):
            return {"state": "ended"}
        else:
            self._own(id_, who)
            await self._scheduler.end(id_, reason, who.token)
        return {"state": "ended"}

    async def _extend(self, who: Asker, fields: ask.Fields) -> dict[str, Any]:
        id_, end = ask.lease_id(fields), ask.needed(fields, "end")
        await self._look_for(id_)
        held = self._own(id_, who)
        first = next(iter(held.values()))
        longest = self._policy.now().of(who.token).max_duration
        if end <= self._now():
            raise InvalidArgument("`end` has passed: release the lease instead")
        if not who.admin and end - first.begin > longest and end > first.end:
            raise PolicyDenied(f"a lease may last {_time(longest)} here, from its begin on")
        for name in held:
            for each in self._lab.bookings_of(name):
                if each.begin < end and each.end > first.end:
                    raise Busy(f"{name} is booked by {unescape_user(each.user)} before that")
        await self._rewrite(held, end=end)
        self._tell("lease.extended", id_, held, who, end=end)
        return {"end": end}

    async def _share(self, who: Asker, fields: ask.Fields) -> dict[str, Any]:
        id_, users = ask.lease_id(fields), [ask.user(each) for each in ask.texts(fields, "users")]
        await self._look_for(id_)
        held = self._own(id_, who)
        co_holders = sorted(set(users) - {next(iter(held.values())).holder})
        await self._rewrite(held, co_holders=co_holders)
        self._tell("lease.shared", id_, held, who, co_holders=co_holders)
        return {"co_holders": co_holders}

    async def _transfer(self, who: Asker, fields: ask.Fields) -> dict[str, Any]:
        id_, to = ask.lease_id(fields), ask.user(fields.get("to"))
        await self._look_for(id_)
        held = self._own(id_, who, to)
        if next(iter(held.values())).holder != to:
            co_holders = [each for each in next(iter(held.values())).co_holders if each != to]
            await self._rewrite(held, holder=to, tether=0.0, co_holders=co_holders)
            self._tell("lease.transferred", id_, held, who, to=to)
        return {"holder": to}

    # ------------------------------------------------------------------ what they share

    async def _look_for(self, id_: str) -> None:
        """Another scheduler may have done something about it that this one has not heard of yet."""
        lab, mirror = self._lab, self._ledger.mirror
        if id_ in lab.queue or id_ in lab.bookings or lab.held(id_):
            return
        keys = [QUEUE.key(id_), BOOKING.key(id_)]
        await self._ledger.read_again(keys)
        for key in keys:
            record = mirror.records.get(key)
            boards = LeaseEnd.decode(record.end).boards if record and record.end else []
            await self._ledger.read_again(LEASE.key(name) for name in boards)

    def _is_on_record(self, id_: str) -> bool:
        """It is there, or was within the hour."""
        return any(kind.key(id_) in self._ledger.mirror.records for kind in (QUEUE, BOOKING))

    def _own(self, id_: str, who: Asker, heir: str | None = None) -> dict[str, LeaseRecord]:
        """The records of a lease that is held. `heir` is whose it may be already, if the request came twice."""
        held = self._lab.held(id_)
        if not held:
            raise LeaseNotFound(f"there is no lease {id_}, or not any more")
        holder = next(iter(held.values())).holder
        if holder != heir:
            _check_owner(id_, holder, who)
        return held

    async def _rewrite(self, held: dict[str, LeaseRecord], **changes: Any) -> None:
        """Write the records of all exporters of a lease in one batch."""
        await self._ledger.write(*(Change(LEASE.key(name), replace(each, **changes)) for name, each in held.items()))

    def _tell(self, type_: str, id_: str, held: dict[str, LeaseRecord], who: Asker, **what: Any) -> None:
        holder = next(iter(held.values())).holder
        self._outbox.put(type_, *held, time=self._now(), id=id_, holder=holder, by=who.token, **what)

    def _now(self) -> float:
        return self._ledger.mirror.now()


async def _again(work: Work, admin: bool, who: str, fields: ask.Fields) -> dict[str, Any]:
    for _ in range(TRIES):
        try:
            return await work(Asker(who, admin), fields)
        except Conflict:
            continue
    raise Busy("too many change that at once: try again")


def _check_owner(id_: str, owner: str, who: Asker) -> None:
    if owner != who.token and not who.admin:
        raise LeaseNotFound(f"the lease {id_} is {unescape_user(owner)}'s")


def _booked(booking: BookingRecord) -> dict[str, Any]:
    return {
        "duration": booking.end - booking.begin,
        "boards": booking.boards,
        "begin": booking.begin,
        "end": booking.end,
    }


def _time(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    parts = [f"{hours} h" if hours else "", f"{rest // 60} min" if rest >= 60 else "", f"{rest % 60} s"]
    return " ".join(part for part in parts if part and part != "0 s") or f"{seconds:g} s"
