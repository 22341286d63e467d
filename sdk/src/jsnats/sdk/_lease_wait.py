"""Waiting for a lease: until it is granted, with the place in the queue told meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from jsnats.schemas import LAB, PRESENCE, TREE, LeaseEnd, queue_key

from ._claim import end_of
from ._connection import Connection
from ._mirror import Mirror, mirrored
from ._moment import clock
from ._snapshot import ExporterInfo, Snapshot, WaitInfo

TELL_S = 0.5
"""The place is reckoned anew at most so often."""
SHOWN = 4
"""So many exporters are named in one message."""
CLOSE_S = 30.0
"""A start that moved by less than this is not told again."""

OnWait = Callable[[WaitInfo], None]
_TREES, _PRESENCE, _LAB = "$KV.jsnats_tree.", "$KV.jsnats_presence.", "$KV.jsnats_lab."


async def wait_end(queue: Mirror, lease: str) -> LeaseEnd:
    """Wait until the entry of `lease` goes, and return what is said of that: the exporters that were granted, or why
    there are none."""
    key = queue_key(lease)
    while True:
        queue.updated.clear()
        record = queue.records.get(key)
        if record and not record.body:
            return end_of(record)
        await queue.updated.wait()


def in_the_way(lab: Snapshot, selectors: Sequence[str]) -> str:
    """What keeps each exporter from being had that the selectors mean: `bench-1 is held by bob, bench-2 is offline`."""
    meant = [each for each in lab.exporters() if any(lab.matches(each.name, selector) for selector in selectors)]
    told = [f"{each.name} is {_obstacle(each)}" for each in meant if not each.free or each.booked]
    return ", ".join([*told[:SHOWN], *([f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else [])])


def _obstacle(info: ExporterInfo) -> str:
    if info.disabled:
        return f"disabled ({info.comment})" if info.comment else "disabled"
    if info.free:
        return f"booked by {info.booked_by} from {clock(info.booked)}"
    return f"held by {info.holder}" if info.holder and info.online else info.state


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
