"""The power of a virtual board."""

from __future__ import annotations

from pydantic import SkipValidation
from pydantic.dataclasses import dataclass

from jsnats_driver_power.driver import VirtualPowerInterface, WithoutMeter

from .vm import Vm


@dataclass(kw_only=True)
class QemuPower(WithoutMeter, VirtualPowerInterface):
    """The power of the board: QEMU runs while it is on."""

    vm: SkipValidation[Vm]

    async def on(self) -> None:
        """Start QEMU; nothing happens when it runs.

        Raises OSError with QEMU's words when it does not start, FileNotFoundError (as DriverOSError) without QEMU,
        ValueError for a default image that cannot be used.
        """
        await self.vm.on()

    async def off(self, destroy: bool = False) -> None:
        """Cut the power; with `destroy` what was flashed, written and saved is gone, as at the end of a lease."""
        await self.vm.off(destroy)

    async def is_on(self) -> bool:
        """Whether QEMU runs: a guest that switches itself off ends it."""
        return self.vm.is_on

    async def close(self) -> None:
        """The next lease finds another board."""
        await self.vm.off(destroy=True)
