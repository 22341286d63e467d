"""The scheduler's events on their way into the store: in order, off the path of every request, through outages."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

from jsnats.schemas import LAB_SOURCE, BrokerError, Event, InvalidName, with_names
from jsnats.sdk import ApiError, Connection, store_event

log = logging.getLogger("jsnats.scheduler")

MAX_KEPT = 10_000
RETRY_S = 1.0


class Outbox:
    """Takes events at any time, without waiting. Beyond MAX_KEPT the oldest are dropped, and that is logged."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._kept: deque[Event] = deque()
        self._more = asyncio.Event()
        self.idle = asyncio.Event()

    def put(self, type_: str, *sources: str, time: float, **data: Any) -> None:
        """Something happened, once for each of the exporters `sources`, or to the lab if none is named.

        Users in `data` are tokens, as in records.
        """
        for source in sources or (LAB_SOURCE,):
            self._kept.append(Event(source=source, type=type_, time=time, data=with_names(data)))
        if len(self._kept) > MAX_KEPT:
            log.warning("%d events were dropped: the broker is away for too long", len(self._kept) - MAX_KEPT)
            while len(self._kept) > MAX_KEPT:
                self._kept.popleft()
        self.idle.clear()
        self._more.set()

    async def run(self) -> None:
        """Store what comes, for ever."""
        while True:
            while self._kept:
                event = self._kept.popleft()
                if not await self._store(event):
                    self._kept.appendleft(event)
                    await asyncio.sleep(RETRY_S)
            self.idle.set()
            self._more.clear()
            await self._more.wait()

    async def _store(self, event: Event) -> bool:
        try:
            await store_event(self._connection, event)
        except (InvalidName, ApiError) as error:
            if isinstance(error, ApiError) and error.is_passing:
                return False
            # It never will be, and others wait behind it.
            log.warning("the event %s of %s could not be stored: %s", event.type, event.source, error)
        except BrokerError as error:
            log.debug("the event %s of %s waits for the broker: %s", event.type, event.source, error)
            return False
        return True
