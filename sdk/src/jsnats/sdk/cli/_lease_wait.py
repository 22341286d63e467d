"""What somebody sees who waits for a lease: his place, then what the exporter's hook says while it is prepared."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from jsnats.schemas import LOGS, BrokerError, LogRecord, ProtocolError, log_subject
from jsnats.sdk import follow

from ._lease_text import place_text

if TYPE_CHECKING:
    from jsnats.sdk import AsyncLab, AsyncLease, WaitInfo

_ERASE = "\x1b[K"  # to the end of the line: also the ^C that the terminal has shown


class Line:
    """One line on stderr that the next one replaces; without a terminal, lines one after the other."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = False

    def show(self, text: str) -> None:
        """Say what is the case now."""
        if self._live:
            text = text[: shutil.get_terminal_size().columns - 1]  # what wraps could not be taken back
            print(f"\r{_ERASE}{text}", end="", file=sys.stderr, flush=True)
            self._shown = True
        else:
            print(text, file=sys.stderr, flush=True)

    def add(self, text: str) -> None:
        """Print a line that stays."""
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave nothing of the last line."""
        if self._shown:
            print(f"\r{_ERASE}", end="", file=sys.stderr, flush=True)
            self._shown = False


@asynccontextmanager
async def waiting(lab: AsyncLab, lease: AsyncLease) -> AsyncIterator[None]:
    """Show, as long as this lasts, how `lease` comes about."""
    line = Line()

    def told(place: WaitInfo) -> None:
        if place.waits is None or place.waits >= 1 or place.position > 1:
            line.show(place_text(place))

    lease.on_wait = told
    watching = asyncio.ensure_future(_preparing(lab, lease, line))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        line.clear()


async def _preparing(lab: AsyncLab, lease: AsyncLease, line: Line) -> None:
    await lease.granted.wait()
    try:
        await asyncio.gather(*(_hook_output(lab, lease, board, line) for board in lease.boards))
    except BrokerError as error:
        line.add(f"the log is not shown: {error}")


async def _hook_output(lab: AsyncLab, lease: AsyncLease, board: str, line: Line) -> None:
    """What the exporter itself logs, not its drivers, since the grant."""
    assert lease.hold
    assert lease.hold.record
    async for each in follow(lab.connection, LOGS.name, log_subject(board, ""), since=lease.hold.record.begin):
        for text in each.message.data.splitlines():
            try:
                record = LogRecord.decode(text)
            except ProtocolError:
                continue
            line.add(f"{board}: {record.message}")
