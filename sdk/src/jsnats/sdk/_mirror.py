"""The records of a bucket, kept as they are now: all of them first, then each change."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from jsnats.schemas import BrokerError, BrokerUnfit, BrokerUnreachable, headers as h

from ._broker_errors import ApiError, Disconnected
from ._buckets import Record, last_record, record_of
from ._connection import Connection
from ._follow import RETRY_S, Begun, Delivered, Idle, ReadAgain, consume

log = logging.getLogger("jsnats.mirror")

REFUSED_S = 2.0
"""How soon one that was complete once asks a broker again that has refused it."""
BEHIND_S = 1.0
"""How far a server of a cluster may be behind that has just come back."""

Changed = Callable[[str, Record], None]


class Mirror:
    """The newest record of each subject that `subjects` matches, in `records`; what was deleted is there with an empty
    body, for its revision serves compare-and-set.

    `synced` is set while it follows the broker, `syncs` counts how often it has become so, and everything up to the
    revision `seen` has been delivered. After an outage it reads everything again, and forgets what is not
    there any more. The broker says nothing when a record expires, so that is reckoned here. `changed` is called for
    each record that is new, and with revision 0 for one that expired or vanished; what it raises is logged. Times are
    in the broker's clock.
    """

    def __init__(
        self, connection: Connection, stream: str, subjects: str, changed: Changed = lambda subject, record: None
    ) -> None:
        self.records: dict[str, Record] = {}
        self.synced = asyncio.Event()
        self.syncs = 0
        self.seen = 0
        self.updated = asyncio.Event()
        self._connection = connection
        self._stream = stream
        self._subjects = subjects
        self._changed = changed
        self._clock_offset = time.time() - time.monotonic()
        self._expiring: dict[str, asyncio.TimerHandle] = {}

    def now(self) -> float:
        """Unix time in s of the broker's clock, as of the last that was heard of it."""
        return time.monotonic() + self._clock_offset

    def get(self, subject: str) -> Record | None:
        """The record that is there, None if there is none or it was deleted."""
        found = self.records.get(subject)
        return found if found and found.body else None

    def revision(self, subject: str) -> int:
        """What a compare-and-set of it expects; 0 if it never was."""
        found = self.records.get(subject)
        return found.revision if found else 0

    def apply(self, subject: str, record: Record) -> None:
        """Take a record that is known to be stored, such as one's own; an older one than that here is ignored."""
        if record.revision <= self.revision(subject):
            return
        self.records[subject] = record
        self._tell(subject, record)

    def forget(self, subject: str) -> None:
        """A record has vanished: it has expired, or its marker has."""
        gone = self.records.pop(subject, None)
        if gone and gone.body:
            self._tell(subject, Record(b"", 0))

    def _tell(self, subject: str, record: Record) -> None:
        self.updated.set()
        try:
            self._changed(subject, record)
        except Exception:  # one record must not hide all that come after it
            log.exception("what follows from %s", subject)

    async def run(self) -> None:
        """Follow until cancelled, however long the broker is away, or without a leader.

        Raises AccessDenied; before it was complete for the first time also ApiError, BrokerUnfit.
        """
        try:
            while True:
                pause_s = RETRY_S
                try:
                    await self._follow()
                except (BrokerUnreachable, Disconnected, ReadAgain):
                    pass
                except (ApiError, BrokerUnfit) as error:
                    if not self.syncs:
                        raise
                    log.warning("%s cannot be read now: %s", self._stream, error)
                    pause_s = REFUSED_S
                self.synced.clear()
                await self._connection.connected.wait()
                await asyncio.sleep(pause_s)
        finally:
            self.synced.clear()
            for timer in self._expiring.values():
                timer.cancel()

    async def _follow(self) -> None:
        seen: set[str] | None = set()
        async for each in consume(
            self._connection, self._stream, self._subjects, {"deliver_policy": "last_per_subject"}
        ):
            if isinstance(each, Begun):
                self._clock_offset = each.clock_offset
            elif isinstance(each, Delivered):
                self._take(each)
                if seen is not None:
                    seen.add(each.message.subject)
            if seen is not None and (isinstance(each, Idle) or not each.pending):
                for subject in await self._really_gone(self.records.keys() - seen):
                    self.forget(subject)
                seen = None
                self.syncs += 1
                self.synced.set()
                self.updated.set()

    async def _really_gone(self, missing: set[str]) -> set[str]:
        """Which of them are not there. In a cluster, what read the records out may be behind: it is asked once more."""
        there = {subject for subject in missing if self.records[subject].body}
        if not there or not self._connection.clustered:
            return missing
        await asyncio.sleep(BEHIND_S)
        found = await asyncio.gather(*(last_record(self._connection, self._stream, subject) for subject in there))
        return missing - {subject for subject, record in zip(there, found, strict=True) if record and record.body}

    def _take(self, each: Delivered) -> None:
        # What was just stored is a lower bound of the time there.
        self._clock_offset = max(self._clock_offset, each.stored - time.monotonic())
        message = each.message
        self.seen = each.sequence
        self.updated.set()
        self.apply(message.subject, record_of(message.data, message.headers, each.sequence))
        ttl = (message.headers or {}).get(h.TTL, "").removesuffix("s")
        if timer := self._expiring.pop(message.subject, None):
            timer.cancel()
        if ttl.isdigit():
            self._expire_in(each.stored + int(ttl) - self.now(), message.subject, each.sequence)

    def _expire_in(self, left: float, subject: str, revision: int) -> None:
        self._expiring[subject] = asyncio.get_running_loop().call_later(left, self._expire, subject, revision)

    def _expire(self, subject: str, revision: int) -> None:
        del self._expiring[subject]
        if self.revision(subject) != revision:
            return
        if self.synced.is_set():
            self.forget(subject)
        else:  # it may have been renewed where nothing can be heard of it: the next reading tells
            self._expire_in(RETRY_S, subject, revision)


@asynccontextmanager
async def mirrored(
    connection: Connection, stream: str, subjects: str, changed: Changed = lambda subject, record: None
) -> AsyncIterator[Mirror]:
    """A mirror that runs as long as the `async with`, and is complete when that begins. Raises as `Mirror.run`."""
    mirror = Mirror(connection, stream, subjects, changed)
    running = asyncio.ensure_future(mirror.run())
    synced = asyncio.ensure_future(mirror.synced.wait())
    try:
        await asyncio.wait({running, synced}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield mirror
    finally:
        synced.cancel()
        running.cancel()
        with suppress(asyncio.CancelledError, BrokerError):
            await running
