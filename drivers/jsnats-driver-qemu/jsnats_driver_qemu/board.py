"""The boards: what QEMU is told to be, by architecture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, cast

import pydantic.dataclasses
from pydantic import Field

Arch = Literal["aarch64", "riscv64", "x86_64"]
ArchName = Literal["aarch64", "amd64", "arm64", "riscv64", "x86_64"]
Accel = Literal["auto", "kvm", "tcg"]
Partition = Literal["root", "bios", "kernel", "initrd", "pflash0", "pflash1"]

ALIASES: Final[dict[str, Arch]] = {"amd64": "x86_64", "arm64": "aarch64"}
PARTITIONS: Final[tuple[Partition, ...]] = ("root", "bios", "kernel", "initrd", "pflash0", "pflash1")
FLASHES: Final[tuple[Partition, ...]] = ("pflash0", "pflash1")
WRITTEN: Final[tuple[Partition, ...]] = ("root", *FLASHES)
"""Those that the guest writes to; the others are only read at power-on."""
STATE: Final = "vmstate"
NODES: Final = (STATE, *(f"disk-{each}" for each in WRITTEN))
"""QEMU's names of what belongs to a snapshot: the disk for the memory, and those that the guest writes to."""
MIB: Final = 1 << 20
KVM: Final = Path("/dev/kvm")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A machine of QEMU's: `tty` is the kernel's name of its serial line, `flash` the bytes of a flash chip.

    With `settings` its firmware keeps them in the second chip; QEMU before 8 takes that of riscv64 for a kernel.
    """

    machine: str
    cpu: str
    tty: str
    flash: int | None
    settings: bool
    devices: tuple[str, ...]


_VIRTIO_SCREEN: Final = ("virtio-gpu-pci", "virtio-keyboard-pci", "virtio-tablet-pci")

MODELS: Final[dict[Arch, Model]] = {
    "aarch64": Model(machine="virt", cpu="max", tty="ttyAMA0", flash=64 * MIB, settings=True, devices=_VIRTIO_SCREEN),
    "riscv64": Model(machine="virt", cpu="rv64", tty="ttyS0", flash=32 * MIB, settings=False, devices=_VIRTIO_SCREEN),
    "x86_64": Model(machine="q35", cpu="max", tty="ttyS0", flash=None, settings=False, devices=("VGA",)),
}


def host_arch() -> ArchName:
    """The architecture of this host, which may be another than those."""
    return cast("ArchName", platform.machine())


def arch_of(name: str) -> Arch:
    """QEMU's name of an architecture. Raises ValueError for one that no model is for."""
    for each in MODELS:
        if each == ALIASES.get(name, name):
            return each
    raise ValueError(f"arch: there is no model of {name}: say one of {', '.join(MODELS)}")


def kvm_for(arch: Arch) -> bool:
    """Whether the kernel of this host may run such a guest itself."""
    return arch == ALIASES.get(platform.machine(), platform.machine()) and os.access(KVM, os.R_OK | os.W_OK)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True)
class Forward:
    """TCP port `guestport` of the guest, at port `hostport` (0: any free one) of the exporter's address `hostaddr`."""

    guestport: Annotated[int, Field(ge=1, le=65535)]
    hostport: Annotated[int, Field(ge=0, le=65535)] = 0
    hostaddr: Annotated[str, Field(pattern=r"^\d+(\.\d+){3}$")] = "127.0.0.1"
    protocol: Literal["tcp"] = "tcp"

    def __str__(self) -> str:
        return f"hostfwd={self.protocol}:{self.hostaddr}:{self.hostport}-:{self.guestport}"


@dataclass(frozen=True, kw_only=True)
class Board:
    """What stays the same from one power-on to the next."""

    arch: Arch
    cpu: str | None
    smp: int
    mem: str
    hostname: str
    append: str
    restrict: bool
    forwards: Sequence[Forward]

    @property
    def model(self) -> Model:
        """What QEMU has for this architecture."""
        return MODELS[self.arch]

    def command(self, accel: str, files: Mapping[Partition, Path], folder: Path, instance: str) -> list[str]:
        """The command line, but for monitor and console."""
        forwards = "".join(f",{each}" for each in self.forwards)
        return [
            f"qemu-system-{self.arch}", "-nodefaults", "-no-user-config", "-display", "none",
            "-name", _value(self.hostname), "-uuid", instance,
            "-machine", self.model.machine, "-accel", accel, "-cpu", self.cpu or self.model.cpu,
            "-smp", str(self.smp), "-m", self.mem,
            "-netdev", f"user,id=net,restrict={'on' if self.restrict else 'off'}{forwards}",
            "-device", "virtio-net-pci,netdev=net", "-vnc", f"unix:{_value(folder / 'vnc')}",
            *self._disks(files, folder), *self._boot(files), *self._devices(),
        ]  # fmt: skip

    def _devices(self) -> Iterator[str]:
        for each in self.model.devices:
            yield from ("-device", each)

    def _disks(self, files: Mapping[Partition, Path], folder: Path) -> Iterator[str]:
        yield from ("-blockdev", _qcow2(STATE, folder / "vmstate.qcow2"))
        if "root" in files:
            yield from ("-blockdev", _qcow2("disk-root", files["root"]))
            yield from ("-device", "virtio-blk-pci,drive=disk-root,bootindex=1")
        for unit, chip in enumerate(FLASHES):
            if chip in files:
                # As -blockdev it would need a property that not every machine has.
                where = f"if=pflash,unit={unit},node-name=disk-{chip},format=qcow2,file={_value(files[chip])}"
                yield from ("-drive", where)
        seed = {"driver": "vvfat", "node-name": "cidata", "dir": str(folder / "cidata"), "label": "CIDATA"}
        yield from ("-blockdev", json.dumps(seed | {"read-only": True}), "-device", "virtio-blk-pci,drive=cidata")

    def _boot(self, files: Mapping[Partition, Path]) -> Iterator[str]:
        for name in ("bios", "kernel", "initrd"):
            if name in files:
                yield from (f"-{name}", str(files[name]))
        if "kernel" in files:
            console = "" if "console=" in self.append else f"console={self.model.tty} "
            yield from ("-append", f"{console}hostname={self.hostname} {self.append}".rstrip())


def _qcow2(node: str, path: Path) -> str:
    return json.dumps({"driver": "qcow2", "node-name": node, "file": {"driver": "file", "filename": str(path)}})


def _value(text: object) -> str:
    """As part of an option of QEMU's, where a comma ends a value."""
    return str(text).replace(",", ",,")
