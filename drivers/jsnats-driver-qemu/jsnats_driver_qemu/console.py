"""The serial console of a virtual board."""

from __future__ import annotations

from typing import Annotated

from anyio.abc import ByteStream
from pydantic import Field, SkipValidation
from pydantic.dataclasses import dataclass

from jsnats.driver import Console, export

from .vm import Vm


@dataclass(kw_only=True)
class QemuConsole(Console):
    """The serial console: it is there whether the board is on or off, as a cable is."""

    vm: SkipValidation[Vm]

    @classmethod
    def client(cls) -> str:
        """Return the client that has pexpect too."""
        return "jsnats_driver_pyserial.client.PySerialClient"

    async def open(self) -> ByteStream:
        """Go on with the line."""
        return self.vm.line

    @export
    async def send_break(self, duration: Annotated[float, Field(gt=0, le=60)] = 0.25) -> None:
        """Send a break, as SysRq wants it; QEMU's has no length. Raises ConnectionError while the board is off."""
        await self.vm.run.execute("chardev-send-break", {"id": "console"})
