"""Power of a virtual device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pydantic.dataclasses import dataclass

from jsnats_driver_power.driver import VirtualPowerInterface, WithoutMeter

from .api import Api
from .device import Device, Goal, Wanted

CLOSE_S: Final = 5.0
"""How long the end of a lease waits for the device to be off. After that the next lease may begin."""


@dataclass(kw_only=True)
class CorelliumPower(WithoutMeter, VirtualPowerInterface):
    """Power of a virtual device: `on` creates it when there is none. `changed` is told of each change of its state."""

    api: Api
    wanted: Wanted
    changed: Callable[[], None]
    destroy_at_end: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._device = Device(self, self.api, self.wanted, self.changed)
        self._turn = asyncio.Lock()
        self._ending: asyncio.Task[None] | None = None

    async def on(self) -> None:
        """Switch on, creating the device when there is none, and wait until it is on.

        Cancelled, it leaves the device on its way: one that is being created starts by itself. Raises TimeoutError,
        ConnectionError also for a device in error, PermissionError for a token that is refused, ValueError for a
        project, flavor, system or build that Corellium does not have.
        """
        await self._reach("on")

    async def off(self, destroy: bool = False) -> None:
        """Switch off at once, and wait until it is off; with `destroy` remove it and what it stored. Raises as `on`."""
        await self._reach("destroyed" if destroy else "off")

    async def is_on(self) -> bool:
        """Ask Corellium whether the device is on. Raises as `on`."""
        found = await self._device.find()
        return found is not None and found.state == "on"

    async def close(self) -> None:
        """Switch off when a lease ends, or destroy.

        A device that is being created cannot be stopped yet: that is waited for beyond this call, until the next
        lease switches or the agent stops.
        """
        await self._give_up_ending()
        ending = asyncio.create_task(self.off(self.destroy_at_end), name=f"off-{self.wanted.name}")
        try:
            done, _ = await asyncio.wait({ending}, timeout=CLOSE_S)
        except asyncio.CancelledError:
            ending.cancel()
            raise
        if done:
            ending.result()
        else:
            self.logger.info("%s is not off yet: going on with it", self.wanted.name)
            self._ending = ending
            ending.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Stop with the agent."""
        if await self._give_up_ending():
            self.logger.warning("%s may run on: switch it off in Corellium", self.wanted.name)
        await super().stop()

    async def _reach(self, goal: Goal) -> None:
        await self._give_up_ending()
        async with self._turn:
            await self._device.reach(goal)

    async def _give_up_ending(self) -> bool:
        """Return whether the device of the last lease was still being switched off."""
        ending, self._ending = self._ending, None
        if ending is None or ending.done():
            return False
        ending.cancel()
        await asyncio.wait({ending})
        return True

    def _ended(self, ending: asyncio.Task[None]) -> None:
        if not ending.cancelled() and (error := ending.exception()):
            self.logger.error("%s was not switched off: %s", self.wanted.name, error)
