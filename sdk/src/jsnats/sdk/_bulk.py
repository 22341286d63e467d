"""A second connection, made when it is first wanted: bytes in masses must not stand before a `cancel`."""

from __future__ import annotations

import asyncio

from jsnats.schemas import BrokerUnreachable

from ._connection import Connection, open_connection


class Bulk:
    """The connection beside `main`, of the same principal."""

    def __init__(self, main: Connection) -> None:
        self._main = main
        self._opening: asyncio.Task[Connection] | None = None

    async def connection(self) -> Connection:
        """Return it, opened once for all who ask; an outage of the broker is waited for. Raises BrokerError."""
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            self._opening = asyncio.ensure_future(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> Connection:
        while True:
            await self._main.wait_connected()
            try:
                return await open_connection(self._main.context, name=f"{self._main.name} (bulk)")
            except BrokerUnreachable:
                if self._main.connected.is_set() and not self._main.just_back:
                    raise

    async def close(self) -> None:
        """Close it, if there is one."""
        if self._opening:
            self._opening.cancel()  # it may wait for the broker
            await asyncio.wait({self._opening})
            if not self._opening.cancelled() and not self._opening.exception():
                await self._opening.result().close()
