"""A second connection, made when it is first wanted: bytes in masses must not stand before a `cancel`."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from jsnats.schemas import BrokerError

from ._connection import Connection, open_connection


class Bulk:
    """The connection beside `main`, of the same principal."""

    def __init__(self, main: Connection) -> None:
        self._main = main
        self._opening: asyncio.Task[Connection] | None = None

    async def connection(self) -> Connection:
        """Return it, opened once for all who ask. Raises BrokerError."""
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            name = f"{self._main.name} (bulk)"
            self._opening = asyncio.ensure_future(open_connection(self._main.context, name=name))
        return await asyncio.shield(self._opening)

    async def close(self) -> None:
        """Close it, if there is one."""
        if self._opening:
            with suppress(BrokerError):
                await (await self._opening).close()
