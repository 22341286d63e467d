"""What systemd wants to hear of a service: that it is ready, that it is alive, that it stops. See sd_notify(3)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def supervised() -> AsyncIterator[None]:
    """Tell systemd that the service is ready, then as often as it wants that the event loop turns, and that it stops.

    Started by anything else it does nothing.
    """
    _tell("READY=1")
    alive = asyncio.create_task(_live(), name="watchdog")
    try:
        yield
    finally:
        alive.cancel()
        await asyncio.wait({alive})
        _tell("STOPPING=1")


async def _live() -> None:
    period_s = int(os.environ.get("WATCHDOG_USEC", 0)) / 1e6
    while period_s:
        _tell("WATCHDOG=1")
        await asyncio.sleep(period_s / 3)


def _tell(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, suppress(OSError):
        # systemd's own is a path; a name that begins with @ is in the abstract namespace.
        notify.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
