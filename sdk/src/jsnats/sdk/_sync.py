"""Streams of results for sync code: whole batches cross the thread, never one hop for an item."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

from ._bridge import WAKE_S, Bridge
from ._results import ResultStream, Sink

TELL_BATCHES = 8
TELL_ITEMS = 512
FEW = 4
"""The loop is told what was used after so many batches or items, and at once when the batches are small: then the
items are slow, or so large that the exporter waits for each."""


def drain(
    bridge: Bridge, make: Callable[[Sink], ResultStream], begin: Callable[[ResultStream], Coroutine[Any, Any, None]]
) -> Iterator[Any]:
    """Yield the items of the stream that `make` makes and `begin` starts. Leaving early ends the generator.

    Raises what the call raised, after the last item.
    """
    batches: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()
    streams: list[ResultStream] = []

    async def start() -> None:
        try:
            streams.append(make(batches.put))
            await begin(streams[0])
        except BaseException:
            batches.put(None)
            raise

    # Nobody waits for the start: the first item is what is waited for.
    started = asyncio.run_coroutine_threadsafe(start(), bridge.loop)
    used = taken = 0
    try:
        while (batch := _next(batches)) is not None:
            used, taken = used + len(batch), taken + 1
            if used >= TELL_ITEMS or taken >= TELL_BATCHES or (len(batch) <= FEW and batches.empty()):
                bridge.loop.call_soon_threadsafe(streams[0].use, used)
                used = taken = 0
            yield from batch
    finally:
        if not (streams and streams[0].finished) and bridge.alive:
            bridge.run(_stop(started, streams))
    if streams[0].error_at_end:
        raise streams[0].error_at_end


def _next(batches: queue.SimpleQueue[list[Any] | None]) -> list[Any] | None:
    while True:
        try:
            return batches.get(timeout=WAKE_S)
        except queue.Empty:
            continue


async def _stop(started: Future[None], streams: list[ResultStream]) -> None:
    """End the stream if it has not ended. Raises what kept it from starting."""
    await asyncio.wrap_future(started)
    if not streams[0].finished:
        await streams[0].stop()
