"""What the drivers and hooks of an exporter have logged, as the lab stores it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

from jsnats.schemas import LOGS, LogRecord, ProtocolError, check_name

from ._connection import Connection
from ._nats import Msg
from ._replay import replay
from ._stored import Beginning, read_stored


def logs_filter(exporter: str) -> str:
    """The subject of the logs of an exporter. Raises InvalidName."""
    return f"jsnats.log.{check_name(exporter, 'exporter name')}.>"


async def read_logs(connection: Connection, exporter: str, *, after: int = 0) -> AsyncIterator[tuple[int, LogRecord]]:
    """Yield (sequence, record) of what is stored beyond sequence `after`. Raises as `replay`."""
    async for sequence, message in replay(connection, LOGS.name, logs_filter(exporter), after=after):
        for record in _lines(message):
            yield sequence, record


async def follow_logs(
    connection: Connection, exporter: str, path: str, begin: Beginning, *, following: bool
) -> AsyncGenerator[LogRecord, None]:
    """Yield what was logged at `path` and below, in the order in which it was stored. Raises as `read_stored`."""
    stored = read_stored(connection, LOGS.name, logs_filter(exporter), begin, following=following)
    async with aclosing(stored) as found:
        async for each in found:
            for record in _lines(each.message):
                # One consumer has one subject: `dut` and `dut.>` would be two.
                if not path or record.path == path or record.path.startswith(f"{path}."):
                    yield record


def _lines(message: Msg) -> Iterator[LogRecord]:
    """The lines of one stored message; what is none is left out."""
    for line in message.data.splitlines():
        try:
            yield LogRecord.decode(line)
        except ProtocolError:
            continue
