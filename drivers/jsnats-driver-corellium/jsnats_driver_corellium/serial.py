"""A console of a virtual device."""

from __future__ import annotations

import asyncio
from ssl import SSLContext
from typing import Final

from anyio import move_on_after
from anyio.abc import AnyByteStream
from pydantic.dataclasses import dataclass

from jsnats.driver import Console
from jsnats_driver_network.websocket import dial_websocket

from .api import Api
from .device import Asleep, Device, Wanted

IDLE_S: Final = 60.0
"""How often to look whether somebody else has switched the device on."""


@dataclass(kw_only=True)
class CorelliumSerial(Console):
    """The console `console_name` of a virtual device, which is there while the device runs."""

    api: Api
    wanted: Wanted
    console_name: str
    tls: SSLContext

    def __post_init__(self) -> None:
        super().__post_init__()
        self._machine = Device(self, self.api, self.wanted)
        self._woken = asyncio.Event()

    @classmethod
    def client(cls) -> str:
        """Return the client of serial consoles; this one has no modem lines."""
        return "jsnats_driver_pyserial.client.PySerialClient"

    def wake(self) -> None:
        """Look at once whether the device runs now."""
        self._woken.set()

    async def open(self) -> AnyByteStream:
        """Connect to the console.

        A device that does not run is waited for here, as the pauses of the base between two attempts would lose more
        of the first words of a boot; the reason is told meanwhile.
        """
        while True:
            self._woken = asyncio.Event()
            try:
                return await self._connect()
            except Asleep as error:
                self._lost(str(error))
            with move_on_after(IDLE_S):
                await self._woken.wait()

    async def _connect(self) -> AnyByteStream:
        try:
            url = await self._machine.console_url(self.console_name)
        except ValueError as error:
            raise ConnectionError(str(error)) from error
        return await dial_websocket(
            url,
            subprotocols=["binary"],
            timeout_s=self.api.timeout_s,
            tls=self.tls,
            where=f"the console of {self.wanted.name}",
        )
