"""Boards for tests: U-Boot in QEMU, and the switch that starts and kills it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tty
import zlib
from dataclasses import field
from pathlib import Path
from typing import Final, Literal

from pydantic.dataclasses import dataclass

from jsnats.sdk import leashed
from jsnats_driver_power.driver import SwitchInterface, WithoutMeter

Arch = Literal["arm64", "x86"]

_FIRMWARE: Final = Path("/usr/lib/u-boot")
_BOARDS: Final[dict[Arch, tuple[str, ...]]] = {
    "arm64": ("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a57", "-bios", f"{_FIRMWARE}/qemu_arm64/u-boot.bin"),
    "x86": ("qemu-system-i386", "-M", "pc", "-bios", f"{_FIRMWARE}/qemu-x86/u-boot.rom"),
}
_CARDS: Final[dict[Arch, str]] = {"arm64": "virtio-net-pci,romfile=", "x86": "e1000,romfile="}


_BANK: Final = 64 << 20
_ENVIRONMENT: Final = 0x40000


def write_environment(path: Path, **variables: str) -> None:
    """Make the flash file of an arm64 board whose whole environment that is."""
    data = b"".join(f"{name}={value}".encode() + b"\0" for name, value in variables.items())
    data = data.ljust(_ENVIRONMENT - 4, b"\0")
    with path.open("wb") as file:
        file.write(zlib.crc32(data).to_bytes(4, "little") + data)
        file.truncate(_BANK)


def missing(arch: Arch) -> str:
    """Say what of a board is not installed, "" if all of it is."""
    command = _BOARDS[arch]
    lacking = [each for each in (command[0], command[-1]) if not shutil.which(each) and not Path(each).exists()]
    return f"{lacking[0]} is not installed" if lacking else ""


@dataclass(kw_only=True)
class QemuPower(WithoutMeter, SwitchInterface):
    """Power of a board of QEMU that runs U-Boot: each time it is switched on, it is a new process.

    `console` is the socket that its serial port is on: the board waits for who connects first. Without it the port is a
    pty, `port`, which stays when the board is off, as a USB adapter does. `flash` is a file of `write_environment`, for
    the arm64 board.
    """

    arch: Arch = "arm64"
    console: str = ""
    flash: str = ""
    options: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.process: subprocess.Popen[bytes] | None = None
        self.fault: Exception | None = None
        self._wires = () if self.console else os.openpty()
        self.port = ""
        if self._wires:
            tty.setraw(self._wires[1])
            self.port = os.ttyname(self._wires[1])

    def on(self) -> None:
        """Start it, or raise `fault` if a test has set one."""
        if self.fault:
            raise self.fault
        if not self.is_on():
            wire = self._wires[0] if self._wires else subprocess.DEVNULL
            self.process = subprocess.Popen(self._command(), stdin=wire, stdout=wire)

    def off(self) -> None:
        """Kill it."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def is_on(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    async def stop(self) -> None:
        """Leave nothing behind."""
        self.unplug()

    def unplug(self) -> None:
        """Kill it and take the serial adapter away, for good."""
        self.off()
        for wire in self._wires:
            os.close(wire)
        self._wires = ()

    def _command(self) -> list[str]:
        serial = f"unix:{self.console},server=on,wait=on" if self.console else "stdio"
        network = ["-netdev", "user,id=net", "-device", f"{_CARDS[self.arch]},netdev=net"]
        flash = ["-drive", f"if=pflash,format=raw,index=1,file={self.flash}"] if self.flash else []
        common = ["-m", "128", "-nodefaults", "-display", "none", "-serial", serial]
        # A board that outlived its test would keep a processor busy for ever.
        return leashed([*_BOARDS[self.arch], *common, *network, *flash, *self.options])
