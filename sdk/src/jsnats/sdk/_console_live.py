"""The live half of reading a console: what the broker republishes, checked and bounded."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Self

from jsnats.schemas import CONSOLE, BrokerUnreachable, ProtocolError, check_live, headers as h, watch_subject

from ._broker_errors import Disconnected
from ._connection import Connection
from ._console_record import ConsoleRecord, parse_record
from ._lasting import Subscription
from ._nats import Msg

log = logging.getLogger("jsnats.console")

LIVE_BYTES = 8 << 20
"""What waits for a slow reader. What does not fit is dropped, and read from the store when its turn comes."""
QUIET_S = 15.0
"""After such a silence the store is looked at: the last message before it may have been lost on the way."""
_PREVIOUS = "Nats-Last-Sequence"
_OVERHEAD = 512

OnLink = Callable[[bool], None]


class Live:
    """What the broker republishes, as far as it fits; it says when the store has to be read instead."""

    def __init__(self, connection: Connection, exporter: str, path: str, on_link: OnLink | None) -> None:
        self._connection = connection
        self._subject = watch_subject(exporter, path)
        self._on_link = on_link or (lambda there: None)
        self._waiting: deque[tuple[int, int, ConsoleRecord]] = deque()
        self._size = 0
        self._missed = False
        self._wake = asyncio.Event()
        self._fault: Exception | None = None
        self._watched = ""
        self._subscription: Subscription | None = None
        self.back = False

    async def __aenter__(self) -> Self:
        connection = self._connection
        self._subscription = await connection.listen(self._subject, self._on_message)
        # No reply is expected: this tells of a lost connection and of a refused subscription.
        self._watched = connection.replies.expect(self._subject, lambda _: None, self._on_fault, once=True)
        connection.on_reconnect.append(self._on_back)
        return self

    async def __aexit__(self, *exc: object) -> None:
        connection = self._connection
        connection.on_reconnect.remove(self._on_back)
        connection.replies.drop(self._watched)
        if self._subscription and not connection.closing:
            await self._subscription.close()

    def _on_message(self, message: Msg) -> None:
        try:
            check_live(message.subject, message.headers, CONSOLE.name, "jsnats.watch.", "jsnats.console.")
            headers = message.headers or {}
            sequence, previous = int(headers[h.SEQUENCE]), int(headers[_PREVIOUS])
        except (ProtocolError, KeyError, ValueError) as error:
            log.warning("ignored a message on %s: %s", message.subject, error)
            return
        self._keep(sequence, previous, message)
        self._wake.set()

    def _keep(self, sequence: int, previous: int, message: Msg) -> None:
        size = len(message.data) + _OVERHEAD
        try:
            record = parse_record(sequence, message)
        except ProtocolError:
            self._missed = True  # who reads the store steps over it
            return
        if self._size + size > LIVE_BYTES:
            self._missed = True
        else:
            self._waiting.append((size, previous, record))
            self._size += size

    def _on_fault(self, error: Exception) -> None:
        if isinstance(error, Disconnected):
            self._on_link(False)
        else:
            self._fault = error
        self._wake.set()

    async def _on_back(self) -> None:
        self._on_link(True)
        self.back = self._missed = True
        self._wake.set()

    def check(self) -> None:
        """Raise what makes going on useless: no permission, a closed connection."""
        if self._fault:
            raise self._fault

    async def next(self) -> tuple[int, ConsoleRecord] | None:
        """The next (sequence before it, record); None when the store has to be looked at."""
        while not self._waiting:
            self.check()
            if self._missed:
                self._missed = False
                return None
            self._wake.clear()
            try:
                async with asyncio.timeout(QUIET_S):
                    await self._wake.wait()
            except TimeoutError:
                return None
        size, previous, record = self._waiting.popleft()
        self._size -= size
        return previous, record

    async def connected(self) -> None:
        """Wait for the broker as long as it takes. Raises AccessDenied, and BrokerUnreachable when we have closed."""
        while True:
            self.check()
            try:
                await self._connection.wait_connected()
                return
            except BrokerUnreachable:
                if self._connection.closing:
                    raise
