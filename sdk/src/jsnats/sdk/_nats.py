"""The NATS client of nats-py with three changes.

It keeps the last of two headers with one name. The inbound check must know of the first, or a sender could put a
stream's stamp beside the broker's own: here equal names are joined by a comma, so the value matches nothing.
Its flush() is no barrier; it and publish() swallow a cancellation, and a task cancelled there went on for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

Message = Msg

__all__ = ["HeaderClient", "Message", "Msg"]

_LINE = len(b"NATS/1.0")


def parse_headers(raw: bytes) -> dict[str, str]:
    """Return the headers of a message; the inline status of the broker's own messages as Status and Description."""
    first, _, rest = bytes(raw).partition(b"\r\n")
    found: dict[str, str] = {}
    if len(first) > _LINE:
        status, _, description = first[_LINE:].strip().partition(b" ")
        found["Status"] = status.decode("ascii", "replace")
        if description:
            found["Description"] = description.decode("utf-8", "replace")
    for line in rest.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            value = value.strip()
            found[name] = f"{found[name]},{value}" if name in found else value
    return found


class HeaderClient(Client):
    """nats-py's client with our header parser."""

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        return parse_headers(headers) or None if headers else None

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        result = await super()._flush_pending(force_flush)
        if task and task.cancelling() > before:
            raise asyncio.CancelledError
        return result

    async def flush(self, timeout: int = 10) -> None:
        """Wait until the broker has processed what was sent before this.

        nats-py writes the PING past what it still holds back, so its own answer may come before that is even sent;
        and it waits with wait_for, which on Python 3.11 forgets a cancellation that comes together with the answer.
        """
        await self._flush_pending(force_flush=True)
        pong = asyncio.get_running_loop().create_future()
        await self._send_ping(pong)
        async with asyncio.timeout(timeout):
            await asyncio.shield(pong)  # a cancelled one breaks nats-py's read loop
