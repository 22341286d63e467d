"""Streams of results for sync code: whole batches cross the thread, never one hop for an item."""

from __future__ import annotations

import queue
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from ._bridge import Bridge
from ._results import ResultStream, Sink

_TELL = 8
"""Batches after which the loop is told what was used."""


def drain(
    bridge: Bridge, make: Callable[[Sink], ResultStream], begin: Callable[[ResultStream], Coroutine[Any, Any, None]]
) -> Iterator[Any]:
    """Yield the items of the stream that `make` makes and `begin` starts. Leaving early ends the generator.

    Raises what the call raised, after the last item.
    """
    batches: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()

    async def start() -> ResultStream:
        stream = make(batches.put)
        await begin(stream)
        return stream

    stream = bridge.run(start())
    used = taken = 0
    try:
        while (batch := batches.get()) is not None:
            used, taken = used + len(batch), taken + 1
            if taken >= _TELL or batches.empty():
                bridge.loop.call_soon_threadsafe(stream.use, used)
                used = taken = 0
            yield from batch
    finally:
        if not stream.finished:
            bridge.run(stream.stop())
    if stream.error_at_end:
        raise stream.error_at_end
