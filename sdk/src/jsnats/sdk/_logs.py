"""What the drivers of an exporter have logged, as the lab stores it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from jsnats.schemas import LOGS, LogRecord, ProtocolError

from ._connection import Connection
from ._nats import Msg
from ._replay import replay


async def read_logs(connection: Connection, exporter: str, *, after: int = 0) -> AsyncIterator[tuple[int, LogRecord]]:
    """Yield (sequence, record) of what is stored beyond sequence `after`. Raises as `replay`."""
    async for sequence, message in replay(connection, LOGS.name, f"jsnats.log.{exporter}.>", after=after):
        for record in _lines(message):
            yield sequence, record


def _lines(message: Msg) -> Iterator[LogRecord]:
    """The lines of one stored message; what is none is left out."""
    for line in message.data.splitlines():
        try:
            yield LogRecord.decode(line)
        except ProtocolError:
            continue
