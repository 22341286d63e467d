"""The exporter's side: a simulated board, and the drivers of its parts that are not those of real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Literal

from pydantic import Field, SkipValidation
from pydantic.dataclasses import dataclass

from jsnats.driver import Composite, Resource, export
from jsnats_driver_network.driver import UnixNetwork
from jsnats_driver_opendal.driver import FlasherInterface
from jsnats_driver_opendal.storage import read_image, write_image
from jsnats_driver_power.common import PowerReading
from jsnats_driver_power.driver import SwitchInterface
from jsnats_driver_pyserial.driver import PySerial

from .machine import Machine

INTERVAL_S = 0.1


@dataclass(kw_only=True)
class SimulatedBoard(Composite):
    """A board without hardware: it boots what was flashed, has a console and a web server, and draws current.

    `voltage` is that of its supply in V, `boot_time` how many s it takes from power to login. `boot: hang` is a kernel
    that hangs, `boot: reset` one that panics and restarts for ever. It lives as long as the agent, also when that is
    killed.
    """

    hostname: str = Field(default="sim-board", pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)
    voltage: float = Field(default=5.0, ge=3, le=60)
    boot_time: float = Field(default=1.5, ge=0, le=600)
    boot: Literal["normal", "hang", "reset"] = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        options = ["--hostname", self.hostname, "--boot-time", str(self.boot_time), "--boot", self.boot]
        machine = self._machine = Machine(self.voltage, options)
        self.children |= {
            "power": SimulatedPower(machine=machine, description="its supply"),
            "serial": SimulatedConsole(machine=machine, url=str(machine.console), description="its console"),
            "storage": SimulatedFlash(machine=machine, description="what it boots"),
            "web": UnixNetwork(path=str(machine.web), description="its web server"),
        }

    async def start(self) -> None:
        """Plug it in, without power."""
        self._machine.logger = self.logger
        await self._machine.plug()

    async def stop(self) -> None:
        """Unplug it."""
        await self._machine.unplug()


@dataclass(kw_only=True)
class SimulatedPower(SwitchInterface):
    """The supply of a simulated board: inrush, and then what the board draws at what it does."""

    machine: SkipValidation[Machine]

    @export
    async def on(self) -> None:
        """Switch on: the board boots what its flash holds."""
        await self.machine.switch(True)

    @export
    async def off(self) -> None:
        """Switch off, in the middle of whatever it does."""
        await self.machine.switch(False)

    @export
    async def is_on(self) -> bool:
        """Say whether it is on; a board that was halted is."""
        return self.machine.is_on

    @export
    async def read(self) -> AsyncGenerator[PowerReading, None]:
        """Yield a reading (V, A) ten times a second until the reader stops."""
        while True:
            yield self.machine.reading()
            await asyncio.sleep(INTERVAL_S)


@dataclass(kw_only=True)
class SimulatedConsole(PySerial):
    """The console of a simulated board: a pty, from before its first byte."""

    machine: SkipValidation[Machine]

    async def start(self) -> None:
        """Begin to read."""
        await self.machine.plug()  # else whichever starts first decides whether the pty is there
        await super().start()


@dataclass(kw_only=True)
class SimulatedFlash(FlasherInterface):
    """The flash of a simulated board. What is written counts from the next boot on, and stays while the agent runs."""

    machine: SkipValidation[Machine]

    @export
    async def flash(self, source: Resource, target: str | None = None) -> None:
        """Write an image, decompressed if it is compressed. Raises ValueError for a `target`: there are none."""
        _refuse(target)
        fresh = self.machine.image.with_suffix(".new")
        fresh.touch()
        written = await write_image(self, source, fresh)
        fresh.replace(self.machine.image)  # only now: what is in the stream was verified to its end
        self.logger.info("flashed %d bytes", written)

    @export
    async def dump(self, target: str | None = None) -> Resource:
        """Read the image back. Raises ValueError for an empty flash."""
        _refuse(target)
        if not self.machine.image.exists():
            raise ValueError("nothing was flashed yet")
        return await read_image(self, self.machine.image, "flash.img")


def _refuse(target: str | None) -> None:
    if target is not None:
        raise ValueError(f"target {target!r}: a simulated board has one flash: leave the target out")
