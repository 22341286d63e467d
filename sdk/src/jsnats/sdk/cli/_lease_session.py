"""A shell or a command that runs under a lease, and what is said about its time meanwhile."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from jsnats.sdk import AsyncLab, AsyncLease, Wanted, connect_async, find_context

from .._moment import clock
from ._lease_text import duration_text
from ._lease_wait import waiting
from ._shell import Session, run_session, until_signal

WARN_S = (300.0, 60.0)
"""So long before the end of a lease its holder is told."""


async def lease_session(asked: Wanted, command: Sequence[str], nats: str | None, context: Path | None) -> int:
    """Take a lease, run the command under it, or a shell, give it back; return the exit code.

    A signal before the command runs gives the place in the queue up: 128 + its number. Raises JsnatsError; LeaseLost
    when the command was ended because the lease had.
    """
    return await until_signal(_session(asked, command, nats, context))


async def _session(asked: Wanted, command: Sequence[str], nats: str | None, context: Path | None) -> int:
    found = find_context(nats, context)
    with tempfile.TemporaryDirectory(prefix="jsnats-lease-") as folder:
        file = Path(folder) / "context.json"
        found.save(file)
        async with connect_async(context=found) as lab, _leased(lab, asked) as lease:
            session = Session(
                context=file, url=found.url, exporter=lease.boards[0], lease=lease.id, boards=lease.boards
            )
            if command:
                code = await run_session(session, command, lease.over)
                if lease.lost:
                    raise lease.lost
                return code
            return await _shell(session, lease)


@asynccontextmanager
async def _leased(lab: AsyncLab, asked: Wanted) -> AsyncIterator[AsyncLease]:
    lease = AsyncLease(lab, asked)
    try:
        async with waiting(lab, lease):
            await lease.take()
        yield lease
    finally:
        await lease.give_back()


async def _shell(session: Session, lease: AsyncLease) -> int:
    _say(f"{', '.join(lease.boards)}  {time_text(lease)}")
    _say(f"lease {lease.id[:8]}, given back when you leave this shell; j --help shows what is there")
    telling = asyncio.ensure_future(_tell_time(lease))
    try:
        return await run_session(session, ())
    finally:
        telling.cancel()
        await asyncio.wait({telling})


def time_text(lease: AsyncLease) -> str:
    """How long it lasts."""
    if lease.remaining is None:
        return "without an end"
    return f"until {clock(lease.end)}, {duration_text(lease.remaining)} from now"


async def _tell_time(lease: AsyncLease) -> None:
    """Warn before the end, which may move, and say when the lease has ended."""
    changed = asyncio.Event()
    lease.on_change = changed.set
    while not lease.lost:
        changed.clear()
        left = lease.remaining
        due = [left - warn for warn in WARN_S if left is not None and left > warn + 1]
        try:
            async with asyncio.timeout(min(due, default=None)):
                await changed.wait()
        except TimeoutError:
            _say(f"\n{', '.join(lease.boards)}: {duration_text(lease.remaining or 0.0)} left; {_how(lease)}")
    _say(f"\n{lease.lost}")


def _how(lease: AsyncLease) -> str:
    return f"`jsnats lease extend {lease.id[:8]} 30m` makes it longer"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
