"""Which leases are over and which waits in vain, found when they fall due and not by looking at all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf

from jsnats.schemas import LeaseRecord, QueueRecord, unescape_user
from jsnats.sdk import Record

from ._clocks import Agenda, Heard
from ._lab_state import LEASE, PRESENCE, QUEUE, Kind, LabState

MAX_REASON = 500
"""Characters of what an exporter gives as its reason: it comes to stand in a marker, and in an event."""


class Over:
    """Keeps an agenda of the leases and queue entries of `lab`. `now` is the broker's clock."""

    def __init__(self, lab: LabState, now: Callable[[], float], heard: Heard | None = None) -> None:
        self._lab = lab
        self._now = now
        self._heard = heard or Heard()
        self._agenda = Agenda(self._heard.monotonic)
        self._absent: set[str] = set()
        lab.told.append(self._changed)

    def left_s(self) -> float:
        """Seconds until something may be over."""
        return self._agenda.left_s()

    def begin_anew(self) -> None:
        """There was an outage, of the broker or of this scheduler: nobody could be heard, and everybody gets his whole
        time again. What a scheduler found at its start was never told of as a change."""
        for kind, names in ((LEASE, self._lab.leases), (QUEUE, self._lab.queue)):
            for name in names:
                self._heard.note(kind.key(name))
                self.plan(kind, name)

    def found(self) -> Iterator[tuple[Kind, str, str]]:
        """What is over now: leases by exporter and waits by id, with the reason. Once each: whoever does not act on it
        plans it again."""
        for subject in self._agenda.due():
            kind = LEASE if subject.startswith(LEASE.prefix) else QUEUE
            name = subject.removeprefix(kind.prefix)
            reason = self._lease_over(name) if kind is LEASE else self._wait_over(name)
            if reason:
                yield kind, name, reason
            self.plan(kind, name, at_least_s=1.0 if reason else 0.01)

    def plan(self, kind: Kind, name: str, at_least_s: float = 0.0) -> None:
        """Put it on the agenda."""
        if kind is LEASE:
            self._plan_lease(name, at_least_s)
        else:
            self._plan_wait(name, at_least_s)

    # ------------------------------------------------------------------ what changes

    def _changed(self, kind: Kind, name: str, record: Record) -> None:
        if kind is LEASE or kind is QUEUE:
            if record.body:
                self._heard.note(kind.key(name))
                self.plan(kind, name)
            else:
                self._heard.drop(kind.key(name))
                self._agenda.drop(kind.key(name))
        elif kind is PRESENCE:
            self._presence_changed(name)

    def _presence_changed(self, name: str) -> None:
        offline = self._lab.is_offline(name)
        just_back = name in self._absent and not offline
        (self._absent.add if offline else self._absent.discard)(name)
        lease = self._lab.leases.get(name)
        if lease and just_back:
            for board in self._lab.held(lease.id):
                self._heard.note(LEASE.key(board))
                self._plan_lease(board)
        elif lease:
            self._plan_lease(name)

    def _plan_lease(self, name: str, at_least_s: float = 0.0) -> None:
        lease = self._lab.leases.get(name)
        if lease is None:
            return
        left = 0.0 if self._ended_there(name, lease) else self._left_s(LEASE.key(name), lease.end, lease.tether)
        self._agenda.put(LEASE.key(name), max(left, at_least_s))

    def _plan_wait(self, id_: str, at_least_s: float = 0.0) -> None:
        waiting = self._lab.queue.get(id_)
        if waiting is None:
            return
        left = self._left_s(QUEUE.key(id_), waiting.record.until, waiting.record.tether)
        self._agenda.put(QUEUE.key(id_), max(left, at_least_s))

    def _left_s(self, subject: str, end: float, tether: float) -> float:
        by_end = end - self._now() if end else inf
        return min(by_end, tether - self._heard.silent(subject) if tether else inf)

    # ------------------------------------------------------------------ what is over

    def _ended_there(self, name: str, lease: LeaseRecord) -> bool:
        presence = self._lab.presence.get(name)
        return presence is not None and presence.ended == lease.epoch

    def _lease_over(self, name: str) -> str:
        """Why, or nothing."""
        lease = self._lab.leases.get(name)
        if lease is None:
            return ""
        if self._ended_there(name, lease):
            return self._lab.presence[name].reason[:MAX_REASON] or f"{name} has ended it"
        if lease.end and self._now() >= lease.end:
            return "its time is up"
        if not self._is_silent(LEASE.key(name), lease.tether):
            return ""
        if any(self._lab.is_offline(board) for board in self._lab.held(lease.id)):
            self._heard.note(LEASE.key(name))  # as long as that lasts, the holder cannot be blamed for it
            return ""
        return _unheard(lease.holder, lease.tether)

    def _wait_over(self, id_: str) -> str:
        waiting = self._lab.queue.get(id_)
        if waiting is None:
            return ""
        wanted: QueueRecord = waiting.record
        if wanted.until and self._now() >= wanted.until:
            waited = wanted.until - wanted.asked
            return f"waited for {round(waited, 1):g} s in vain" if waited else "it cannot be had at once"
        return _unheard(wanted.user, wanted.tether) if self._is_silent(QUEUE.key(id_), wanted.tether) else ""

    def _is_silent(self, subject: str, tether: float) -> bool:
        return bool(tether) and self._heard.silent(subject) >= tether


def _unheard(user: str, tether: float) -> str:
    return f"{unescape_user(user)} was not heard of for {tether:g} s"
