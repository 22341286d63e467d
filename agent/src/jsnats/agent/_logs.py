"""What an exporter's drivers log goes to the broker as well, for whoever debugs a test from afar.

Batches make themselves: what is logged while one message is on its way goes with the next.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from jsnats.schemas import LogRecord, log_subject
from jsnats.sdk import Connection

from ._outbox import Item, Outbox

BACKLOG = 1 << 20
"""Bytes of lines that wait for the broker."""
LINE = 16 << 10
"""Characters of a message that are kept: a dump in a log line must not push out the rest."""


class LogPublisher:
    """Publishes the logs of one exporter's drivers from `open` to `close`; `paths` are the drivers' places."""

    def __init__(self, connection: Connection, exporter: str, paths: Collection[str]) -> None:
        self._connection = connection
        self._logger = logging.getLogger(f"jsnats.driver.{exporter}")
        self._outbox = Outbox(f"logs of {exporter}", BACKLOG, lambda count: _lost(exporter, count), lines=True)
        self._handler = _Handler(self._logger, self._outbox, exporter, paths)

    def open(self) -> None:
        """Begin to take what is logged, from INFO on; where else it goes depends on the levels above, as before."""
        self._outbox.open(self._connection)
        self._logger.addHandler(self._handler)
        self._logger.propagate = False
        self._logger.setLevel(min(logging.INFO, self._handler.above.getEffectiveLevel()))

    async def close(self) -> None:
        """Take no more, and publish the rest if the broker is there."""
        self._logger.removeHandler(self._handler)
        self._logger.propagate = True
        self._logger.setLevel(logging.NOTSET)
        await self._outbox.close()


def _lost(exporter: str, count: int) -> Item:
    record = logging.makeLogRecord({"levelname": "WARNING"})
    message = f"{count} lines of log dropped before this one: the broker was away"
    line = LogRecord(time=record.created, level=record.levelname, path="", message=message)
    return log_subject(exporter, ""), line.encode()


class _Handler(logging.Handler):
    """Stands at the logger of one exporter, in place of propagation: a quiet agent still publishes INFO."""

    def __init__(self, logger: logging.Logger, outbox: Outbox, exporter: str, paths: Collection[str]) -> None:
        super().__init__()
        self._logger = logger
        self._prefix = len(logger.name) + 1
        self._outbox = outbox
        self._exporter = exporter
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
            self._outbox.put(log_subject(self._exporter, path), line.encode())
        except Exception:  # noqa: BLE001 - handleError prints it, as in every handler: no line may fail a driver
            self.handleError(record)
        if record.levelno >= self.above.getEffectiveLevel():
            self.above.handle(record)

    def _path(self, name: str) -> str:
        """The driver that a logger belongs to: a driver may have loggers below its own."""
        while name and name not in self._paths:
            name = name.rpartition(".")[0]
        return name
