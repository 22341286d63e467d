"""The exporter's side of power: the interface that all power drivers share, and two drivers without hardware."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, export

from .common import PowerReading
from .supply import Supply

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PowerInterface(Driver, ABC):
    """Base of drivers that switch power: write `on`, `off` and `read`, with `async def` or with `def`.

    They are exported already, and `cycle` and the end of a lease (`close`) are made of them. What cannot measure has
    its `read` from `WithoutMeter`.
    """

    @classmethod
    def client(cls) -> str:
        """Return the client of all power drivers."""
        return "jsnats_driver_power.client.PowerClient"

    @export(marker="power-on")
    @abstractmethod
    def on(self) -> Awaitable[None] | None:
        """Switch on."""

    @export
    @abstractmethod
    def off(self) -> Awaitable[None] | None:
        """Switch off."""

    @export
    @abstractmethod
    def read(self) -> AsyncGenerator[PowerReading, None] | Generator[PowerReading, None, None]:
        """Yield readings (V, A) until the reader stops."""

    @export
    async def cycle(self, wait: Seconds = 2.0) -> None:
        """Switch off, wait so many seconds, switch on. Cancelled while it waits, it leaves the power off."""
        self.report_progress(0, 2, "switching off")
        await self.invoke(self.off)
        self.report_progress(1, 2, f"off for {wait:g} s")
        await asyncio.sleep(wait)
        await self.invoke(self.on)
        self.report_progress(2, 2, "on")

    async def close(self) -> None:
        """Switch off when a lease ends, so that the next one finds a cold board."""
        await self.invoke(self.off)


class SwitchInterface(PowerInterface):
    """Base of drivers of a switch that can be asked: write `is_on` too."""

    @classmethod
    def client(cls) -> str:
        """Return the client that can say `is_on()`."""
        return "jsnats_driver_power.client.SwitchClient"

    @export
    @abstractmethod
    def is_on(self) -> Awaitable[bool] | bool:
        """Ask the switch itself whether it is on: a button beside the board counts."""


class WithoutMeter:
    """The `read` of what cannot measure: `class Relay(WithoutMeter, SwitchInterface)`."""

    def read(self) -> AsyncGenerator[PowerReading, None]:
        """Raise NotImplementedError: there is no meter."""
        instead = ": is_on() says whether it is on" if isinstance(self, SwitchInterface) else ""
        raise NotImplementedError(f"{type(self).__name__} cannot measure{instead}")


class VirtualPowerInterface(SwitchInterface):
    """Power of a device that is made for the lease, such as a virtual machine: `off` may also destroy it."""

    @classmethod
    def client(cls) -> str:
        """Return the client that can say `off(destroy=True)`."""
        return "jsnats_driver_power.client.VirtualPowerClient"

    @export
    @abstractmethod
    def off(self, destroy: bool = False) -> Awaitable[None] | None:
        """Switch off; with `destroy` the device and what it stored are gone."""


@dataclass(kw_only=True)
class _Simulated(SwitchInterface, ABC):
    """Parameters of both mocks: `voltage` V without load, `load` A in the mean, `interval` s between readings."""

    voltage: float = Field(default=12.0, gt=0, le=1000)
    load: float = Field(default=1.0, ge=0, le=1000)
    interval: float = Field(default=0.1, gt=0, le=3600)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._supply = Supply(voltage=self.voltage, load=self.load)

    def _switch(self, on: bool) -> None:
        self._supply.switch(on, time.monotonic())
        self.logger.info("switched %s", "on" if on else "off")

    def _measure(self) -> PowerReading:
        return self._supply.reading(time.monotonic())


@dataclass(kw_only=True)
class MockPower(_Simulated):
    """A switchable supply without hardware; its readings move as those of a board do."""

    @export
    async def on(self) -> None:
        """Switch on: the capacitor charges, which shows as inrush."""
        self._switch(True)

    @export
    async def off(self) -> None:
        """Switch off: the current stops, the voltage falls as the load empties the capacitor."""
        self._switch(False)

    @export
    async def is_on(self) -> bool:
        """Return whether it is switched on."""
        return self._supply.on

    @export
    async def read(self) -> AsyncGenerator[PowerReading, None]:
        """Yield a reading (V, A) each `interval` until the reader stops."""
        while True:
            yield self._measure()
            await asyncio.sleep(self.interval)


@dataclass(kw_only=True)
class SyncMockPower(_Simulated):
    """As `MockPower`, written with plain functions, as a driver over a blocking library is."""

    @export
    def on(self) -> None:
        """Switch on: the capacitor charges, which shows as inrush."""
        self._switch(True)

    @export
    def off(self) -> None:
        """Switch off: the current stops, the voltage falls as the load empties the capacitor."""
        self._switch(False)

    @export
    def is_on(self) -> bool:
        """Return whether it is switched on."""
        return self._supply.on

    @export
    def read(self) -> Generator[PowerReading, None, None]:
        """Yield a reading (V, A) each `interval` until the reader stops."""
        while True:
            yield self._measure()
            time.sleep(self.interval)
