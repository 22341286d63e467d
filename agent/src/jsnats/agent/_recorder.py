"""Publish what a console says to CONSOLE: each byte once and in order, whatever happens to the broker.

One message is on its way at a time, and it expects the one before to be the last of its subject: so a message that is
sent again, because nobody can say whether it arrived, is stored once. Until a message is stored, what comes after it
waits in a ring.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from jsnats.driver import Console, Driver, Tap, caller
from jsnats.schemas import CONSOLE, BrokerError, BrokerUnfit, console_subject, headers as h, unescape_user
from jsnats.sdk import ApiError, Connection, Disconnected, replay

from ._ring import BLOCK_BYTES, Block, Ring

log = logging.getLogger("jsnats.agent")

PAUSE_S = 0.02
FULL_BYTES = 4096
"""A message goes when the one before is so old, or when so much is waiting: twice as much after each that was full, so
that fast output does not take a message for every read."""
LINE = 2048
"""Characters of a marker's text: one that fits into no message would be tried again for ever, and hold up the rest."""
FLUSH_S = 2.0
"""How long the end of the agent waits for what is not stored yet."""
FIRST_RETRY_S = 0.2
MAX_RETRY_S = 5.0
STORED_S, LOST_S = 5.0, 2.5
"""After how long an answer is not waited for any more; in a cluster sooner: the leader that had the block is dead."""
FOREIGN_S = 4.0
"""After a record that somebody else has written under our name: longer than we need to see that we lost the name."""


Tell = Callable[[str, dict[str, Any], str], None]
"""Takes type, data and path of an event."""


@dataclass(frozen=True, slots=True)
class Last:
    """The last record of a console. `end` is the offset behind it."""

    sequence: int
    offset: int
    time_ms: int
    mark: str
    data: bytes

    @property
    def end(self) -> int:
        return self.offset if self.mark else self.offset + len(self.data)

    def is_(self, block: Block) -> bool:
        """Say whether `block` is what was stored."""
        return (self.offset, self.time_ms, self.mark, self.data) == (
            block.offset,
            block.time_ms,
            block.mark,
            bytes(block.data),
        )


class Recorder(Tap):
    """Records one console, and tells of its markers. `load` first, then `run` until `finish`."""

    def __init__(self, connection: Connection, exporter: str, path: str, tell: Tell) -> None:
        super().__init__()
        self._path = path
        self._tell = tell
        self.subject = console_subject(exporter, path)
        self._connection = connection
        self._sequence = 0
        self._ring = Ring()
        self._block: Block | None = None
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._full_bytes = FULL_BYTES
        self._finishing = False
        self._complained = ""

    async def load(self) -> None:
        """Find out where the record ends, to go on from there. Raises BrokerError."""
        last = await self._last_patiently()
        if last is None:
            return
        self._sequence, self.offset = last.sequence, last.end
        seconds = max(0, _now_ms() - last.time_ms) / 1000
        about = "" if last.mark == "closed" else "up to "
        shown = round(seconds) if seconds >= 10 else round(seconds, 1)
        self.mark("gap", f"{about}{shown} s not read: agent restarted", seconds=seconds)

    # ------------------------------------------------------------------ what the console says

    def data(self, data: bytes) -> None:
        self._ring.add(self.offset, _now_ms(), data)
        self.offset += len(data)
        self._some.set()
        if self._ring.size >= self._full_bytes:
            self._full.set()

    def mark(self, kind: str, text: str, **more: object) -> None:
        told = {"text": text, **more}
        body = json.dumps({key: _line(value) for key, value in told.items()}).encode()
        self._ring.add_mark(self.offset, _now_ms(), kind, body)
        self._some.set()
        self._full.set()
        self._tell("console.marker", {"marker": kind, "text": text, "offset": self.offset, **more}, self._path)

    # ------------------------------------------------------------------ what is stored

    async def run(self) -> None:
        """Store what comes, until `finish`."""
        try:
            while self._block or self._ring or not self._finishing:
                try:
                    await self._drain()
                except Exception:
                    log.exception("recording %s", self.subject)
                    await asyncio.sleep(MAX_RETRY_S)
        finally:
            self._ring.close()

    def finish(self) -> None:
        """Let `run` end when everything is stored."""
        self._finishing = True
        self._some.set()
        self._full.set()

    async def _drain(self) -> None:
        sent_at = float("-inf")
        while self._block or await self._due(sent_at):
            self._block = self._block or self._ring.take()
            sent_at = asyncio.get_running_loop().time()
            await self._store(self._block)
            self._block = None

    async def _due(self, sent_at: float) -> bool:
        """Wait until a message should go; False at the end."""
        while not self._ring:
            if self._finishing:
                return False
            self._some.clear()
            self._full.clear()
            await self._some.wait()
        wait_s = sent_at + PAUSE_S - asyncio.get_running_loop().time()
        waits = wait_s > 0 and not self._ring.markers and not self._finishing
        if waits and self._ring.size < self._full_bytes:
            self._full.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._full.wait()
        full = self._ring.size >= self._full_bytes
        self._full_bytes = min(2 * self._full_bytes, BLOCK_BYTES) if full else FULL_BYTES
        return True

    async def _store(self, block: Block) -> None:
        """Publish a block until it is stored."""
        wait_s = FIRST_RETRY_S
        while not await self._try(block):
            await asyncio.sleep(wait_s)
            await self._connection.connected.wait()
            wait_s = min(2 * wait_s, MAX_RETRY_S)
        if self._complained:
            self._complained = ""
            log.info("%s is recorded again", self.subject)

    async def _try(self, block: Block) -> bool:
        """Publish a block once; say whether it is stored now."""
        headers = {
            h.OFFSET: str(block.offset),
            h.TIME: str(block.time_ms),
            h.EXPECTED_SUBJECT_SEQ: str(self._sequence),
        }
        if block.mark:
            headers[h.MARK] = block.mark
        try:
            answer = await self._connection.request(
                self.subject,
                bytes(block.data),
                headers=headers,
                timeout_s=LOST_S if self._connection.clustered else 5.0,
            )
            told = json.loads(answer.data)
            if "error" in told:
                error = ApiError(told["error"])
                if error.is_conflict:
                    return await self._look(block)
                raise error
        except Disconnected:
            return False
        except (BrokerError, TimeoutError, ValueError) as error:
            self._complain(str(error) or "the broker does not answer")
            return False
        self._sequence = told["seq"]
        return True

    async def _look(self, block: Block) -> bool:
        """The record does not end where we thought: see whether `block` was stored after all. Raises BrokerError."""
        last = await self._last()
        expected, self._sequence = self._sequence, last.sequence if last else 0
        if last is None or last.sequence < expected:  # the end of it has expired, or is lost
            return False
        if last.is_(block):
            return True
        self._complain("somebody else has recorded it too")
        if last.end > block.offset:  # what an agent of this name had on its way when it was killed
            distance = last.end - block.offset
            block.offset += distance
            self.offset += distance
            self._ring.shift(distance)
        await asyncio.sleep(FOREIGN_S)
        return False

    async def _last_patiently(self) -> Last | None:
        while True:
            await self._connection.wait_connected()
            with suppress(Disconnected):
                return await self._last()

    async def _last(self) -> Last | None:
        try:
            async for sequence, message in replay(self._connection, CONSOLE.name, self.subject, last_per_subject=True):
                headers = message.headers or {}
                offset, time_ms = int(headers.get(h.OFFSET, "0")), int(headers.get(h.TIME, "0"))
                return Last(sequence, offset, time_ms, headers.get(h.MARK, ""), message.data)
        except ApiError as error:
            if error.is_no_stream:
                raise BrokerUnfit("the broker has no stream for consoles: `jsnats broker run` makes it") from error
            raise
        return None

    def _complain(self, why: str) -> None:
        if why != self._complained:
            self._complained = why
            log.warning("%s cannot be recorded now, it is kept here: %s", self.subject, why)


class Recorders:
    """Those of one exporter. `drivers` are its own, by their path in the tree."""

    def __init__(self, connection: Connection, exporter: str, drivers: Mapping[Driver, str], tell: Tell) -> None:
        self._consoles = {
            driver: Recorder(connection, exporter, path, tell)
            for driver, path in drivers.items()
            if isinstance(driver, Console) and driver.record
        }
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Take over the consoles; before they are started. Raises BrokerError."""
        await asyncio.gather(*(recorder.load() for recorder in self._consoles.values()))
        for console, recorder in self._consoles.items():
            console.record_to(recorder)
            self._tasks.add(asyncio.create_task(recorder.run(), name=recorder.subject))

    def mark(self, kind: str, where: str) -> None:
        """A method with that marker is about to run: say so in every console."""
        user = unescape_user(caller.get())
        text = f"{kind}: {where}" + (f" by {user}" if user else "")
        for recorder in self._consoles.values():
            recorder.mark(kind, text, **({"user": user} if user else {}))

    async def end(self) -> None:
        """Store what is there, as far as the broker takes it soon, and stop."""
        for recorder in self._consoles.values():
            recorder.finish()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FLUSH_S)
        await self.abandon()

    async def abandon(self) -> None:
        """Stop at once."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()


def _line(value: object) -> object:
    return " ".join(value.splitlines())[:LINE] if isinstance(value, str) else value


def _now_ms() -> int:
    return int(time.time() * 1000)
