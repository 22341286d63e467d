"""What an exporter tells the lab on the side, its logs and events: put by at once, stored in order when the broker can.

Nothing here ever makes a driver or a call wait: while the broker is away a bounded backlog holds the newest, and says
how many it had to drop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby

from jsnats.schemas import JsnatsError
from jsnats.sdk import Conflict, Connection, Disconnected, put_record

log = logging.getLogger("jsnats.agent")

BATCH = 64 << 10
FLUSH_S = 2.0
RETRY_S = 0.2

Item = tuple[str, bytes]
"""A subject and a body."""


class Outbox:
    """Stores what was `put`, from `open` to `close`; `what` it is called in the agent's log.

    At most `limit` bytes wait; `lost` makes an item of the number that was dropped. With `lines`, those of one subject
    go together, joined by newlines, and the subject is nobody else's: each message expects the one before, so that one
    that is sent again is stored once. Without, it may then be stored twice.
    """

    def __init__(self, what: str, limit: int, lost: Callable[[int], Item], *, lines: bool = False) -> None:
        self._what = what
        self._lines = lines
        self._backlog = _Backlog(limit, lost)
        self._connection: Connection
        self._revisions: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._refused = False

    def put(self, subject: str, body: bytes) -> None:
        """Put something by, from any thread; what comes before `open` waits for it."""
        self._backlog.put((subject, body))

    def open(self, connection: Connection) -> None:
        """Begin to store."""
        self._connection = connection
        self._backlog.empty_on(asyncio.get_running_loop())
        self._task = asyncio.create_task(self._run(), name=self._what)

    async def close(self) -> None:
        """Store the rest if the broker is there."""
        self._backlog.end()
        if self._task:
            await asyncio.wait({self._task}, timeout=FLUSH_S)
            self._task.cancel()

    async def _run(self) -> None:
        while await self._backlog.filled():
            while batch := self._backlog.take():
                for subject, body in self._messages(batch):
                    await self._store(subject, body)

    def _messages(self, batch: list[Item]) -> Iterator[Item]:
        if not self._lines:
            yield from batch
            return
        for subject, items in groupby(batch, key=lambda each: each[0]):
            yield subject, b"\n".join(body for _, body in items)

    async def _store(self, subject: str, body: bytes) -> None:
        sent = False
        while True:
            await self._connection.connected.wait()
            expect = self._revisions.pop(subject, None)
            try:
                revision = await put_record(self._connection, subject, body, expect=expect)
                if self._lines:
                    self._revisions[subject] = revision
                return
            except Conflict:
                if sent:
                    return  # it was stored, only the answer was lost
            except (Disconnected, TimeoutError):
                sent = True
                if expect is not None:
                    self._revisions[subject] = expect
            except JsnatsError as error:
                if not self._connection.just_back:  # after a restart the store is there a little later
                    self._refuse(error, body.count(b"\n") + 1 if self._lines else 1)
                    return
                await asyncio.sleep(RETRY_S)

    def _refuse(self, error: JsnatsError, count: int) -> None:
        self._backlog.dropped += count
        if not self._refused:
            self._refused = True
            log.warning("%s: not stored: %s", self._what, error)


class _Backlog:
    """Items that wait, filled from any thread and emptied on the loop."""

    def __init__(self, limit: int, lost: Callable[[int], Item]) -> None:
        self.dropped = 0
        self._limit = limit
        self._lost = lost
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = False

    def empty_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say where it is emptied."""
        self._loop, self._ended = loop, False
        self._event.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._event.set()

    def put(self, item: Item) -> None:
        """Add one; the oldest ones make room for it."""
        with self._lock:
            self._items.append(item)
            self._bytes += len(item[1])
            while self._bytes > self._limit:
                self._bytes -= len(self._items.popleft()[1])
                self.dropped += 1
        if self._loop:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._event.set)

    async def filled(self) -> bool:
        """Wait for items; return whether there are any, or will be."""
        await self._event.wait()
        if not self._ended:
            self._event.clear()
        return not self._ended or bool(self._items)

    def take(self) -> list[Item]:
        """The next ones, in order; what was dropped before them is told first."""
        batch: list[Item] = []
        size = 0
        with self._lock:
            if self.dropped and self._items:
                batch.append(self._lost(self.dropped))
                self.dropped = 0
            while self._items and size < BATCH:
                item = self._items.popleft()
                batch.append(item)
                size += len(item[1])
            self._bytes -= size
        return batch
