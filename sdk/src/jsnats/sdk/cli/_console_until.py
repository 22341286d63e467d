"""`--until REGEX`: the end of a command that follows a console."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from jsnats.client import ConsoleTimeout
from jsnats.client._expect import Patterns, Text
from jsnats.sdk import ConsoleRecord

MATCH_S = 30.0
"""How long to wait for it, unless --timeout says otherwise."""


class Until:
    """Looks for `pattern` in what is shown, for `timeout_s`."""

    def __init__(self, pattern: str, timeout_s: float | None) -> None:
        self._patterns = Patterns(pattern)
        self._text = Text()
        self._limit_s = MATCH_S if timeout_s is None else timeout_s

    def met(self, records: Iterable[ConsoleRecord]) -> bool:
        """Say whether it was said, these records included."""
        for record in records:
            self._text.add(record)
        return bool(self._text.find(self._patterns))

    @asynccontextmanager
    async def in_time(self, console: str) -> AsyncIterator[None]:
        """Raise ConsoleTimeout when the block takes too long."""
        try:
            async with asyncio.timeout(self._limit_s):
                yield
        except TimeoutError:
            raise ConsoleTimeout(f"{console}: no {self._patterns.said} within {self._limit_s:g} s") from None
