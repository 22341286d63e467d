"""What an exporter's drivers log goes to the broker as well, for whoever debugs a test from afar.

Batches make themselves: what is logged while one message is on its way goes with the next. Nothing here ever makes a
driver wait: while the broker is away a bounded backlog holds the newest lines, and says how many it had to drop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import groupby

from jsnats.schemas import BrokerError, LogRecord, log_subject
from jsnats.sdk import Conflict, Connection, Disconnected, put_record

log = logging.getLogger("jsnats.agent")

BACKLOG = 1 << 20
"""Bytes of lines that wait for the broker."""
BATCH = 64 << 10
LINE = 16 << 10
"""Characters of a message that are kept: a dump in a log line must not push out the rest."""
FLUSH_S = 2.0
RETRY_S = 0.2


class LogPublisher:
    """Publishes the logs of one exporter's drivers from `open` to `close`; `paths` are the drivers' places."""

    def __init__(self, connection: Connection, exporter: str, paths: Collection[str]) -> None:
        self._connection = connection
        self._exporter = exporter
        self._logger = logging.getLogger(f"jsnats.driver.{exporter}")
        self._backlog = _Backlog()
        self._handler = _Handler(self._logger, self._backlog, paths)
        self._revisions: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._refused = False

    def open(self) -> None:
        """Begin to take what is logged, from INFO on; where else it goes depends on the levels above, as before."""
        self._backlog.wake_on(asyncio.get_running_loop())
        self._logger.addHandler(self._handler)
        self._logger.propagate = False
        self._logger.setLevel(min(logging.INFO, self._handler.above.getEffectiveLevel()))
        self._task = asyncio.create_task(self._run(), name=f"logs of {self._exporter}")

    async def close(self) -> None:
        """Take no more, and publish the rest if the broker is there."""
        self._logger.removeHandler(self._handler)
        self._logger.propagate = True
        self._logger.setLevel(logging.NOTSET)
        self._backlog.end()
        if self._task:
            await asyncio.wait({self._task}, timeout=FLUSH_S)
            self._task.cancel()

    async def _run(self) -> None:
        while await self._backlog.filled():
            for path, lines in self._backlog.take():
                await self._store(path, lines)

    async def _store(self, path: str, lines: list[bytes]) -> None:
        subject, body = log_subject(self._exporter, path), b"\n".join(lines)
        sent = False
        while True:
            await self._connection.connected.wait()
            try:
                expect = self._revisions.pop(subject, None)
                self._revisions[subject] = await put_record(self._connection, subject, body, expect=expect)
                return
            except Conflict:
                if sent:
                    return  # it was stored, only the answer was lost
            except (Disconnected, TimeoutError):
                sent = True
                if expect is not None:
                    self._revisions[subject] = expect
            except BrokerError as error:
                if not self._connection.just_back:  # after a restart the store is there a little later
                    self._refuse(error, len(lines))
                    return
                await asyncio.sleep(RETRY_S)

    def _refuse(self, error: BrokerError, count: int) -> None:
        self._backlog.dropped += count
        if not self._refused:
            self._refused = True
            log.warning("exporter %s: what its drivers log is not stored: %s", self._exporter, error)


class _Backlog:
    """Lines that wait, filled from any thread and emptied on the loop."""

    def __init__(self) -> None:
        self.dropped = 0
        self._lines: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._ended = False

    def wake_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say where it is emptied."""
        self._loop = loop

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._event.set()

    def put(self, path: str, line: bytes) -> None:
        """Add a line; the oldest ones make room for it."""
        with self._lock:
            self._lines.append((path, line))
            self._bytes += len(line)
            while self._bytes > BACKLOG:
                self._bytes -= len(self._lines.popleft()[1])
                self.dropped += 1
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._event.set)

    async def filled(self) -> bool:
        """Wait for lines; return whether there are any, or will be."""
        await self._event.wait()
        if not self._ended:
            self._event.clear()
        return not self._ended or bool(self._lines)

    def take(self) -> Iterator[tuple[str, list[bytes]]]:
        """Yield (path, lines), in order, until there are none; what was dropped is told first."""
        while batch := self._batch():
            for path, lines in groupby(batch, key=lambda each: each[0]):
                yield path, [line for _, line in lines]

    def _batch(self) -> list[tuple[str, bytes]]:
        batch: list[tuple[str, bytes]] = []
        size = 0
        with self._lock:
            if self.dropped and self._lines:
                batch.append(("", _dropped(self.dropped)))
                self.dropped = 0
            while self._lines and size < BATCH:
                batch.append(self._lines.popleft())
                size += len(batch[-1][1])
            self._bytes -= size
        return batch


def _dropped(count: int) -> bytes:
    record = logging.makeLogRecord({"levelname": "WARNING"})
    message = f"{count} lines of log dropped before this one: the broker was away"
    return LogRecord(time=record.created, level=record.levelname, path="", message=message).encode()


class _Handler(logging.Handler):
    """Stands at the logger of one exporter, in place of propagation: a quiet agent still publishes INFO."""

    def __init__(self, logger: logging.Logger, backlog: _Backlog, paths: Collection[str]) -> None:
        super().__init__()
        self._logger = logger
        self._prefix = len(logger.name) + 1
        self._backlog = backlog
        self._paths = paths

    @property
    def above(self) -> logging.Logger:
        """Where the line would have gone by itself."""
        return self._logger.parent or logging.getLogger()

    def emit(self, record: logging.LogRecord) -> None:
        """Put the line by; never raises and never waits."""
        try:
            path = self._path(record.name[self._prefix :])
            text = self.format(record)[:LINE].encode(errors="replace").decode()
            line = LogRecord(time=record.created, level=record.levelname, path=path, message=text)
            self._backlog.put(path, line.encode())
        except Exception:  # noqa: BLE001 - handleError prints it, as in every handler: no line may fail a driver
            self.handleError(record)
        if record.levelno >= self.above.getEffectiveLevel():
            self.above.handle(record)

    def _path(self, name: str) -> str:
        """The driver that a logger belongs to: a driver may have loggers below its own."""
        while name and name not in self._paths:
            name = name.rpartition(".")[0]
        return name
