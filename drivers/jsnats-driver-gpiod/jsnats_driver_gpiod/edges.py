"""Hand the edges of one pin to all who watch it.

Everything here happens on the loop. An edge is kept for a watcher until that has read it; of KEPT unread ones the
oldest goes, as in the kernel, and what was lost is counted in the next. Moments are of the monotonic clock, in s, so
that a host whose clock is set neither loses an edge nor makes one up; what travels has the time of day.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .common import Edge, EdgeType

KEPT: Final = 1000


class Watcher:
    """The edges of a pin since a moment: iterate with `async for`. Raises what the pin failed of."""

    def __init__(self, since: float, number: int) -> None:
        self._since = since
        self._number = number
        self._edges: deque[tuple[int, Edge]] = deque(maxlen=KEPT)
        self._arrived = asyncio.Event()
        self._error: Exception | None = None

    def put(self, number: int, moment: float, edge: Edge) -> None:
        """Keep an edge for the reader, unless it is older than what is watched."""
        if moment < self._since:
            self._number = number
        else:
            self._edges.append((number, edge))
            self._arrived.set()

    def fail(self, error: Exception) -> None:
        """Raise this from the reader, when it has read what came before."""
        self._error = error
        self._arrived.set()

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> Edge:
        while not self._edges:
            if self._error:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        number, edge = self._edges.popleft()
        missed, self._number = number - self._number - 1, number
        return edge.model_copy(update={"missed": missed})


class Edges:
    """The edges of a pin. A subclass makes them come: `begin` for the first watcher, `end` after the last.

    `number` is that of the last edge, `error` why no more will come.
    """

    def __init__(self) -> None:
        self.number = 0
        self.error: Exception | None = None
        self._watchers: set[Watcher] = set()

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def begin(self) -> None:
        """Somebody watches now."""

    def end(self) -> None:
        """Nobody watches any more."""

    def put(self, number: int, edge_type: EdgeType, moment: float) -> None:
        """An edge has come. They are numbered from 1, without a gap unless some were lost."""
        self.number = number
        edge = Edge(type=edge_type, timestamp=time.time() - (time.monotonic() - moment))
        for watcher in self._watchers:
            watcher.put(number, moment, edge)

    def fail(self, error: Exception) -> None:
        """No more edges will come: all who watch are told why."""
        self.error = error
        for watcher in self._watchers:
            watcher.fail(error)

    @contextmanager
    def watch(self, since: float) -> Iterator[Watcher]:
        """Watch what happens from the moment `since` on. Raises what it failed of before."""
        if self.error:
            raise self.error
        watcher = Watcher(since, self.number)
        if not self._watchers:
            self.begin()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers and not self.error:
                self.end()
