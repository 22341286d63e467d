"""Numbered requests, many on their way at once: the chunks of a file, up or down.

One reply subject serves them all, and each reply says by its subject which number it answers. What was on its way when
the connection broke is due again, so whoever asks must be able to ask twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from jsnats.schemas import BrokerUnreachable

from ._broker_errors import Disconnected, is_no_responders
from ._connection import Connection
from ._lasting import RECONNECT_WAIT_S, Subscription
from ._nats import Msg

STALL_S = 15.0
"""After so long without any reply, the oldest requests are sent again: on a connection that stands, only a broker in
trouble loses one."""
OLDEST = 4
LOST_S = 3.0
"""The same in a cluster, for all of them: they are lost with the server that led the stream."""
GIVE_UP_S = 120.0


class Numbered:
    """The requests `due`, by number, at most `window` of them sent and not yet taken. An async context manager.

    `due` may be changed by its owner; what was lost comes to its front.
    """

    def __init__(self, connection: Connection, due: Iterable[int], window: int) -> None:
        self.due = deque(due)
        self._connection = connection
        self._window = window
        self._flying: dict[int, None] = {}  # in the order of sending
        self._arrived: deque[tuple[int, Msg]] = deque()
        self._changed = asyncio.Event()
        self._error: Exception | None = None
        self._pause = False
        self._vacant = 0.0
        self._stall_s = LOST_S if connection.clustered else STALL_S
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()

    async def __aenter__(self) -> Self:
        replies = self._connection.replies
        self._inbox = replies.inbox()
        self._subscription: Subscription = await self._connection.listen(f"{self._inbox}.*", self._take)
        # Nothing is expected there: it tells that the connection was lost.
        self._watched = replies.expect("", lambda _: None, self._fail, once=True)
        return self

    async def __aexit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._connection.replies.drop(self._watched)
        await self._subscription.close()

    @property
    def open(self) -> bool:
        """Whether anything is still due, on its way or not taken."""
        return bool(self.due or self._flying or self._arrived)

    @property
    def room(self) -> int:
        """How many more may be sent now."""
        return 0 if self._pause else self._window - len(self._flying) - len(self._arrived)

    def later(self, number: int) -> None:
        """Number is due again, and nothing is sent for a moment: what answers is not ready."""
        self.due.appendleft(number)
        self._pause = True
        self._vacant = self._vacant or self._loop.time()

    def waits_s(self) -> float:
        """For how long what answers has not been ready; 0.0 if it was just now."""
        return self._loop.time() - self._vacant if self._vacant else 0.0

    async def send(
        self, number: int, subject: str, body: bytes | memoryview = b"", headers: dict[str, str] | None = None
    ) -> None:
        """Send request `number`, which is no longer due; it is again if it cannot be sent now."""
        self._flying[number] = None
        try:
            await self._connection.publish(subject, body, reply=f"{self._inbox}.{number}", headers=headers)
        except Disconnected as error:
            self._fail(error)

    async def take(self) -> tuple[int, Msg] | None:
        """The next reply, None when something is due again. Raises AccessDenied, BrokerUnreachable."""
        if not self._arrived and self._flying and not self._error:
            await self._wait()
        if self._arrived:
            return self._arrived.popleft()
        await self._recover()
        if self._pause and not self._flying:
            await asyncio.sleep(RECONNECT_WAIT_S)
            self._pause = False
        return None

    async def _wait(self) -> None:
        while not self._arrived and not self._error:
            self._changed.clear()
            try:
                async with asyncio.timeout(self._stall_s):
                    await self._changed.wait()
            except TimeoutError:
                self._stalled()
                return

    def _stalled(self) -> None:
        if self._loop.time() - self._heard > GIVE_UP_S:
            url = self._connection.context.url
            raise BrokerUnreachable(f"the broker at {url} has not answered for {GIVE_UP_S:g} s")
        flying = list(self._flying)
        self._again(flying if self._connection.clustered else flying[:OLDEST])

    async def _recover(self) -> None:
        error, self._error = self._error, None
        if isinstance(error, Disconnected):
            self._again(list(self._flying))
            await self._connection.wait_connected()
            self._heard = self._loop.time()
        elif error:
            raise error

    def _again(self, numbers: list[int]) -> None:
        for number in sorted(numbers, reverse=True):
            del self._flying[number]
            self.due.appendleft(number)

    def _take(self, message: Msg) -> None:
        number = int(message.subject.rpartition(".")[2])
        if number in self._flying:
            self._heard = self._loop.time()
            del self._flying[number]
            self._arrived.append((number, message))
            if not is_no_responders(message):
                self._vacant = 0.0
        self._changed.set()

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._changed.set()
