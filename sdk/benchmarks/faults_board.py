"""The board of the fault table: everything that it says is numbered, so that a hole and a double are seen."""

from __future__ import annotations

import asyncio
import os
from itertools import count

import anyio.abc
from pydantic.dataclasses import dataclass

from jsnats.agent.testing import Bench
from jsnats.driver import Console
from jsnats_driver_network.driver import TcpNetwork
from jsnats_driver_opendal import MockFlasher

ECHO_PORT = "JSNATS_FAULTS_ECHO"
"""The variable with the port of the service behind the forward."""
LINE_S, EVENT_S = 0.01, 0.05


class Chatter(anyio.abc.ByteStream):
    """A device that says `line 0`, `line 1` and so on."""

    def __init__(self) -> None:
        self._numbers = count()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next line."""
        await asyncio.sleep(LINE_S)
        return b"line %d\r\n" % next(self._numbers)

    async def send(self, item: bytes) -> None:
        """It listens to nobody."""

    async def send_eof(self) -> None:
        """Nor to this."""

    async def aclose(self) -> None:
        """Nothing is held."""


@dataclass(kw_only=True, eq=False)
class ChattyConsole(Console):
    """A console with that device."""

    async def open(self) -> anyio.abc.ByteStream:
        """Switch it on."""
        return Chatter()


@dataclass(kw_only=True, eq=False)
class FaultBoard(Bench):
    """A Bench with a console that talks, a storage to flash, a forward, and a numbered event from time to time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.children["console"] = ChattyConsole()
        self.children["storage"] = MockFlasher()
        self.children["echo"] = TcpNetwork(host="127.0.0.1", port=int(os.environ[ECHO_PORT]))
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to tick."""
        self._ticking = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        for number in count():
            self.emit("tick", number=number)
            await asyncio.sleep(EVENT_S)

    async def stop(self) -> None:
        """Tick no more."""
        if self._ticking:
            self._ticking.cancel()
