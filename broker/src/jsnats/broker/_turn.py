"""One of several services does the work at a time: who holds a record of the lab that lives TTL_S.

It is renewed by compare-and-set, and who could not renew it stops believing that it is theirs before it has expired for
the others. Whoever ends in order gives it back, so the next one begins at once.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from jsnats.schemas import LAB, BrokerError
from jsnats.sdk import Conflict, Connection, leader_record, put_record

log = logging.getLogger("jsnats.broker")

TURNS = "$KV.jsnats_lab.service."
"""Where the records of turns are. They pass, and are no data of a lab."""
TTL_S = 10
RENEW_S = 1.5
LOOK_S = 1.0
"""How often who waits looks whether it is free."""
MARGIN_S = 1.0
"""How much sooner it counts as lost here than for the others."""
TAKE_S = 5.0


class Turn:
    """The turn at `subject`; `me` is what stands in its record. `mine` is set while it is ours, `lost` while not."""

    def __init__(self, connection: Connection, subject: str, me: str) -> None:
        self.mine = asyncio.Event()
        self.lost = asyncio.Event()
        self.lost.set()
        self._connection = connection
        self._subject = subject
        self._body = me.encode()
        self._revision = 0
        self._expiry: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Take it when it is free, keep it, until cancelled."""
        while True:
            await asyncio.sleep(RENEW_S if self.mine.is_set() else LOOK_S)
            await self.attempt()

    async def attempt(self) -> None:
        """Renew it, or take it if it is free."""
        begin = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(TAKE_S):
                if self.mine.is_set() or await self._is_free():
                    self._revision = await put_record(
                        self._connection, self._subject, self._body, expect=self._revision, ttl_s=TTL_S
                    )
                    self._hold(begin + TTL_S - MARGIN_S)
        except Conflict:
            self._lose()
        except (BrokerError, TimeoutError) as error:
            log.debug("the turn at %s waits for the broker: %s", self._subject, error)

    async def _is_free(self) -> bool:
        record = await leader_record(self._connection, LAB.name, self._subject)
        self._revision = record.revision if record else 0
        # Ours too: it was written, and only the answer was lost.
        return record is None or record.body in (b"", self._body)

    def _hold(self, until: float) -> None:
        if self._expiry:
            self._expiry.cancel()
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_at(until, self._lose)
        if loop.time() < until and not self.mine.is_set():
            self.lost.clear()
            self.mine.set()

    def _lose(self) -> None:
        if self.mine.is_set():
            log.warning("the turn at %s was lost, or not renewed in time", self._subject)
        self._end()

    def _end(self) -> None:
        self.mine.clear()
        self.lost.set()

    async def give_back(self) -> None:
        """Let the next one begin at once."""
        if self._expiry:
            self._expiry.cancel()
        if not self.mine.is_set():
            return
        self._end()
        with suppress(BrokerError, Conflict, TimeoutError):
            async with asyncio.timeout(MARGIN_S):
                await put_record(self._connection, self._subject, b"", expect=self._revision, ttl_s=TTL_S, delete=True)
