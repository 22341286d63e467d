"""A conversation with a console: what was sent, what it said, and the patterns that are waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio

from jsnats.schemas import JsnatsError

from ._expect import ConsoleMatch, ConsoleTimeout, Patterns, Text, said
from ._feed import Feed, Session

if TYPE_CHECKING:
    from jsnats.sdk import ConsoleReader, DuplexStream, Start

SHOWN = 200

OpenStream = Callable[[], Awaitable["DuplexStream"]]


class Dialogue:
    """Everything runs on the loop of the lab. `open_stream` attaches as the console's writer."""

    def __init__(self, reader: ConsoleReader, open_stream: OpenStream) -> None:
        self._reader = reader
        self._open_stream = open_stream
        self._feed: Feed | None = None
        self._session: Session | None = None
        self._text = Text()
        self._why_lost = ""

    async def begin(self, since: Start = None) -> Feed:
        """Listen from now on, or from `since` in the record, and forget what has been heard."""
        feed = await Feed.open(self._reader, since)
        if self._feed:
            await self._feed.close()
        self._feed, self._text = feed, Text()
        if self._session:
            feed.attach(self._session, self._lost)
        return feed

    @property
    def heard(self) -> int:
        """The offset behind all that has been heard, 0 for nothing."""
        return self._feed.heard if self._feed else 0

    async def send(self, data: bytes) -> None:
        """Send bytes to the device. Raises CallError when it cannot be written to, StreamReset when the session is
        lost."""
        feed = self._feed or await self.begin()
        if self._session is None:
            self._session = Session(await self._open_stream())
            self._why_lost = ""
            feed.attach(self._session, self._lost)
        await self._session.stream.send(data)

    def _lost(self, why: str) -> None:
        self._session, self._why_lost = None, why

    async def expect(self, patterns: Patterns, timeout_s: float | None, since: Start) -> ConsoleMatch:
        """Return the next match. Raises ConsoleTimeout, BrokerError, and ConfigurationError for a wrong `since`."""
        try:
            async with asyncio.timeout(timeout_s):
                feed = self._feed if self._feed and since is None else await self.begin(since)
                while (found := self._text.find(patterns)) is None:
                    for record in await feed.take():
                        self._text.add(record)
                return found
        except TimeoutError:
            pass
        raise ConsoleTimeout(self._in_vain(patterns, timeout_s, await self._reader.absence()))

    def _in_vain(self, patterns: Patterns, timeout_s: float | None, absence: str) -> str:
        tail = said(self._text.tail)[-SHOWN:]
        heard = f"the last it said: {tail!r}" if tail else "it said nothing"
        died = absence or self._text.closed or self._why_lost
        return f"{self._reader.name}: no {patterns.said} within {timeout_s:g} s; {heard}" + (
            f"; {died}" if died else ""
        )

    async def close(self) -> None:
        """Let somebody else write, and listen no more."""
        await self._detach()
        if self._feed:
            await self._feed.close()
        self._feed = None

    async def _detach(self) -> None:
        session, self._session = self._session, None
        if session:
            try:
                await session.stream.aclose()
            except (JsnatsError, anyio.BrokenResourceError):
                return  # it is closed, that is what was wanted
