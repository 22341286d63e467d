"""What else a virtual board can be reached by: its screen, and ports of the guest. Each is a network service."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketStream
from pydantic import SkipValidation
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, exportstream
from jsnats_driver_network.dial import dial_tcp, dialling

from .vm import Vm

DIAL_S = 10.0


@dataclass(kw_only=True)
class _Service(Driver, ABC):
    """A way to `vm`, while it is on."""

    vm: SkipValidation[Vm]

    @classmethod
    def client(cls) -> str:
        """Return the client of network services: port forwards to it."""
        return "jsnats_driver_network.client.NetworkClient"

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[SocketStream, None]:
        """Connect. Raises ConnectionError, also while the board is off, or TimeoutError."""
        async with await self._dial() as stream:
            yield stream

    @abstractmethod
    async def _dial(self) -> SocketStream:
        """Connect."""


@dataclass(kw_only=True)
class Vnc(_Service):
    """The screen, keyboard and mouse of the board, by VNC (RFB)."""

    async def _dial(self) -> SocketStream:
        path = self.vm.screen
        with dialling("the screen", DIAL_S):
            return await anyio.connect_unix(path)


@dataclass(kw_only=True)
class GuestPort(_Service):
    """TCP port `guestport` of the guest. QEMU takes a connection before the guest does: one that it refuses ends."""

    guestport: int

    async def _dial(self) -> SocketStream:
        host, port = await self.vm.forwarded(self.guestport)
        return await dial_tcp(host, port, DIAL_S)
