"""Waiting for a lease: until it is granted, with the place in the queue told meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from jsnats.schemas import LAB, PRESENCE, TREE, LeaseLost, queue_key

from ._claim import end_of, end_text
from ._connection import Connection
from ._mirror import Mirror, mirrored
from ._snapshot import Snapshot, WaitInfo

TELL_S = 0.5
"""The place is reckoned anew at most so often."""
CLOSE_S = 30.0
"""A start that moved by less than this is not told again."""

OnWait = Callable[[WaitInfo], None]
_TREES, _PRESENCE, _LAB = "$KV.jsnats_tree.", "$KV.jsnats_presence.", "$KV.jsnats_lab."


async def granted(queue: Mirror, lease: str) -> list[str]:
    """Wait until the entry of `lease` goes, and return the exporters that were granted. Raises LeaseLost that says why
    there are none."""
    key = queue_key(lease)
    while True:
        queue.updated.clear()
        record = queue.records.get(key)
        if record and not record.body:
            end = end_of(record)
            if end.boards:
                return end.boards
            raise LeaseLost(f"nothing was granted: {end_text(end) or 'the wait has ended'}")
        await queue.updated.wait()


@asynccontextmanager
async def telling(connection: Connection, lease: str, tell: OnWait | None) -> AsyncIterator[None]:
    """Tell the place of `lease` in the queue whenever it changes, as long as this lasts."""
    if tell is None:
        yield
        return
    work = asyncio.ensure_future(_tell(connection, lease, tell))
    try:
        yield
    finally:
        work.cancel()
        await asyncio.wait({work})


async def _tell(connection: Connection, lease: str, tell: OnWait) -> None:
    async with AsyncExitStack() as stack:
        mirrors = [
            await stack.enter_async_context(mirrored(connection, bucket.name, f"{prefix}>"))
            for bucket, prefix in ((TREE, _TREES), (PRESENCE, _PRESENCE), (LAB, _LAB))
        ]
        lab = mirrors[-1]
        told: WaitInfo | None = None
        while True:
            lab.updated.clear()
            place = next((each for each in _snapshot(*mirrors).queue() if each.id == lease), None)
            if place and not _same(place, told):
                told = place
                tell(place)
            await lab.updated.wait()
            await asyncio.sleep(TELL_S)


def _same(place: WaitInfo, told: WaitInfo | None) -> bool:
    if told is None or place.position != told.position or (place.start is None) != (told.start is None):
        return False
    return abs((place.start or 0.0) - (told.start or 0.0)) < CLOSE_S


def _snapshot(trees: Mirror, presence: Mirror, lab: Mirror) -> Snapshot:
    return Snapshot.of(
        {key.removeprefix(_TREES): each.body for key, each in trees.records.items() if each.body},
        {key.removeprefix(_PRESENCE): each.body for key, each in presence.records.items() if each.body},
        {key.removeprefix(_LAB): each for key, each in lab.records.items()},
        lab.now(),
    )
