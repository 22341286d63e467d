"""The lease of one exporter, from its grant until the board is torn down: the one place where an exporter's state
changes.

The lease record is mirrored; its end is kept here on the own monotonic clock, so that a lease ends in time without the
broker too. Whatever ends a lease comes through `_end`: from then on nobody is let in, and the teardown takes its
course.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from jsnats.schemas import (
    LAB,
    BrokerError,
    ConfigurationError,
    ExporterState,
    ExporterStep,
    JsnatsError,
    LeaseEnd,
    LeaseRecord,
    PresenceRecord,
    ProtocolError,
    exporter_step,
    lease_key,
    unescape_user,
)
from jsnats.sdk import Connection, Mirror, Record, last_record

from ._board import Board
from ._hooks import HookFailed
from ._lease import Admission
from ._presence import STARTING, Presence

log = logging.getLogger("jsnats.agent")

LOOK_UP_S = 2.0
"""How long a call under a lease that is not known here yet may wait for it to be."""

Emit = Callable[[str, dict[str, Any]], None]


class Keeper:
    """Keeps the lease of one exporter. `emit` takes its events; `failed` an error that ends the exporter.

    Call `begin` when the drivers have begun and before anybody may call, then `run`.
    """

    def __init__(
        self,
        exporter: str,
        admission: Admission,
        presence: Presence,
        connection: Connection,
        board: Board,
        emit: Emit,
        failed: Callable[[JsnatsError], None],
    ) -> None:
        self.exporter = exporter
        self.state: ExporterState = "offline"
        self.ended = 0
        self.lease: LeaseRecord | None = None  # while it is prepared, held or torn down
        self._admission = admission
        self._presence = presence
        self._connection = connection
        self._board = board
        self._emit = emit
        self._failed = failed
        self._public = False
        self._retiring = False
        self._reason = ""
        self._exit: JsnatsError | None = None
        self._mirror: Mirror
        self._over: asyncio.Future[str]
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._granted = asyncio.Event()

    # ------------------------------------------------------------------ what is heard

    def begin(self, mirror: Mirror) -> None:
        """Take the first step: a lease that ran when an agent was here last goes on, or is torn down."""
        self._mirror = mirror
        previous = self._presence.previous or PresenceRecord(instance="")
        self.ended = previous.ended
        self._admission.seen = mirror.revision(lease_key(self.exporter))
        lease = self._recorded()
        unfinished = previous.epoch if previous.epoch != self.ended else 0
        if unfinished and (lease is None or lease.epoch != unfinished):
            self._take("resume", LeaseRecord(holder="", epoch=unfinished))
            self._end(_reason_of(mirror.records.get(lease_key(self.exporter))))
        elif lease and _was_held(self._presence.previous, unfinished):
            self._take("resume", lease)
            if previous.was in ("ending", "stuck"):
                why = previous.reason if previous.state == previous.was else ""  # else it says why that one is gone
                self._end(why or "it was being torn down when its agent was restarted")
        else:
            self._step("start")
            self._admission.free()

    def now(self) -> float:
        """Unix time in s of the broker's clock."""
        return self._mirror.now()

    def on_record(self, _subject: str, record: Record) -> None:
        """The mirror tells that the lease record has changed."""
        self._admission.seen = max(self._admission.seen, record.revision)
        lease, mine = _decoded(record), self.lease
        if mine is None:
            self._granted.set()
        elif self._over.done():
            return  # what comes next is seen when this one is torn down
        elif not record.body:
            self._end(_reason_of(record))
        elif lease is None:
            return  # it cannot be read; that was told
        elif lease.epoch != mine.epoch:
            self._end("another lease has taken its place")
        else:
            self._renew(lease)

    def _recorded(self) -> LeaseRecord | None:
        """The lease that is on record, unless it has ended here."""
        record = self._mirror.get(lease_key(self.exporter))
        lease = _decoded(record) if record else None
        if record and lease and lease.epoch < self.ended < record.revision:
            # Newer as a record, older as a lease: it comes from a backup, and has ended here since. Say so.
            self.ended, self._reason = lease.epoch, "it had ended before the lab was restored from a backup"
            self._tell()
        # Not `>`: a lab whose store was lost begins again at 1.
        return lease if lease and lease.epoch != self.ended else None

    async def look_up(self) -> None:
        """Somebody knows of a newer lease: read the record, and let it be prepared, for LOOK_UP_S at most.

        Those who ask meanwhile share one reading.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look_up())
        await asyncio.wait({self._looking})

    async def _look_up(self) -> None:
        key = lease_key(self.exporter)
        with suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(LOOK_UP_S):
                if record := await last_record(self._connection, LAB.name, key):
                    self._mirror.apply(key, record)
                while self._recorded() and self.state != "leased":
                    self._moved.clear()
                    await self._moved.wait()

    # ------------------------------------------------------------------ from grant to end

    async def run(self) -> None:
        """Say what state it is in, then serve one lease after the other until cancelled."""
        self._public = True
        self._tell()
        while True:
            if self.lease is None:
                self._take("grant", await self._next())
            if self.state == "preparing":
                await self._prepare()
            await self._tear_down(await self._over)

    def retire(self) -> bool:
        """Take no further lease; say whether there is none now."""
        self._retiring = True
        if self.state == "available":
            self._tell()
        return self.state == "available"

    def carry_on(self) -> None:
        """Take leases again, after `retire`."""
        if self._retiring:
            self._retiring = False
            self._granted.set()
            self._tell()

    async def _next(self) -> LeaseRecord:
        while self._retiring or self._exit or not (lease := self._recorded()):
            self._granted.clear()
            await self._granted.wait()
        return lease

    def _take(self, step: ExporterStep, lease: LeaseRecord) -> None:
        self.lease = lease
        self._over = asyncio.get_running_loop().create_future()
        self._step(step)
        if self.state == "preparing":
            self._admission.shut(self._preparing(lease))
            self._board.give_to(lease)
        else:
            self._admission.hold(lease)
        self._keep_time(lease)

    def _preparing(self, lease: LeaseRecord) -> str:
        what = "the beforeLease hook runs, " if self._board.has_hook("beforeLease") else ""
        return f"{self.exporter} is being prepared for {_holder(lease)}: {what}try again when it is leased"

    def _keep_time(self, lease: LeaseRecord) -> None:
        """Have it end at its end. The broker's clock is asked once, here; then the own monotonic one counts."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if lease.end:
            left = lease.end - self._mirror.now()
            self._timer = asyncio.get_running_loop().call_later(max(left, 0), self._end, "its time is up")

    def _renew(self, lease: LeaseRecord) -> None:
        """The record was written anew: another end, another holder, more of them."""
        self.lease = lease
        self._keep_time(lease)
        if self.state == "leased":
            self._admission.hold(lease)
        self._board.give_to(lease)

    async def _prepare(self) -> None:
        assert self.lease
        work = asyncio.ensure_future(self._make_ready(self.lease))
        try:
            await asyncio.wait((work, self._over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            await asyncio.wait({work})
        if not work.cancelled():
            work.result()  # raises what is wrong here
        if not self._over.done():
            self._step("prepared")
            self._admission.hold(self.lease)
            self._emit("lease.ready", _about(self.lease))

    async def _make_ready(self, lease: LeaseRecord) -> None:
        try:
            await self._board.make_ready(lease)
        except ConfigurationError as error:
            log.error("%s", error)
            self._end(str(error))
        except HookFailed as failed:
            if not self._over.done():  # else it failed because its calls were ended
                self._on_hook_failed(failed)

    def _on_hook_failed(self, failed: HookFailed) -> None:
        if failed.policy == "exit":
            self._exit = failed
        if failed.policy != "warn":
            self._end(str(failed))

    # ------------------------------------------------------------------ teardown

    def _end(self, reason: str) -> None:
        """It is over: refuse and cancel at once; `run` does what takes time."""
        assert self.lease
        if self._over.done():
            return
        self._over.set_result(reason)
        if self._timer:
            self._timer.cancel()
        why = f"the lease has ended: {reason}"
        self._admission.shut(f"{self.exporter} is being torn down, {_whose(self.lease)}{why}")
        self._step("over", reason)
        self._board.end_calls(why)

    async def _tear_down(self, reason: str) -> None:
        begin, lease = time.monotonic(), self.lease
        assert lease
        if failed := await self._board.tear_down(lease, f"the lease has ended: {reason}", self._hung):
            self._on_hook_failed(failed)
        if self._admission.policy == "if-held":
            await self._board.open_to_all(self._hung)
        self.ended, self.lease = lease.epoch, None
        self._step("freed" if self.state == "stuck" else "torn down", reason)
        self._admission.free()
        seconds = round(time.monotonic() - begin, 3)
        self._emit("lease.torn-down", {**_about(lease), "reason": reason, "seconds": seconds})
        if self._exit:
            self._failed(self._exit)

    def _hung(self, where: str) -> None:
        log.error("exporter %s is stuck: %s does not return", self.exporter, where)
        self._admission.shut(f"{self.exporter} is stuck: {where} has not returned since a lease ended")
        if self.state != "stuck":
            self._step("hung", where)
        self._emit("exporter.stuck", {"reason": where})

    def _step(self, step: ExporterStep, reason: str = "") -> None:
        self.state, self._reason = exporter_step(self.state, step), reason
        log.info("exporter %s: %s, now %s%s", self.exporter, step, self.state, f": {reason}" if reason else "")
        self._moved.set()
        self._tell()

    def _tell(self) -> None:
        if self._public:  # not before calls are answered
            epoch = self.lease.epoch if self.lease else 0
            retired = self.state == "available" and (self._retiring or self._exit)
            state = STARTING if retired else self.state
            self._presence.say(state, epoch=epoch, ended=self.ended, reason=self._reason)


def _was_held(previous: PresenceRecord | None, unfinished: int) -> bool:
    """Whether a lease that is there had been prepared, by what the last agent said. If nobody knows it had: a board
    that somebody works with must not be prepared again."""
    if previous is None or not previous.was:
        return True
    return bool(unfinished) and previous.was != "preparing"


def _decoded(record: Record) -> LeaseRecord | None:
    if not record.body:
        return None
    try:
        return LeaseRecord.decode(record.body).at(record.revision)
    except ProtocolError as error:
        log.error("a lease record cannot be read: %s", error)
        return None


def _reason_of(record: Record | None) -> str:
    try:
        end = LeaseEnd.decode(record.end) if record and record.end else LeaseEnd()
    except ProtocolError:
        end = LeaseEnd()
    return end.reason or "its record is gone"


def _holder(lease: LeaseRecord) -> str:
    return unescape_user(lease.holder)


def _whose(lease: LeaseRecord) -> str:
    return f"{_holder(lease)} had it, " if lease.holder else ""


def _about(lease: LeaseRecord) -> dict[str, Any]:
    return {"id": lease.id, "holder": _holder(lease), "epoch": lease.epoch}
