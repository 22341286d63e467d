"""What a virtual board boots from, written and read while it is off."""

from __future__ import annotations

from pydantic import SkipValidation
from pydantic.dataclasses import dataclass

from jsnats.driver import Resource
from jsnats_driver_opendal.flasher import FlasherInterface
from jsnats_driver_opendal.storage import read_image, write_image

from .board import PARTITIONS, WRITTEN, Partition
from .vm import Vm


@dataclass(kw_only=True)
class QemuFlasher(FlasherInterface):
    """What the board boots from, while it is off.

    Its partitions are `root`, the disk, and `bios`, `kernel`, `initrd`, `pflash0`, `pflash1`.
    """

    vm: SkipValidation[Vm]

    async def flash(self, source: Resource, target: str | None = None) -> None:
        """Write an image, raw or qcow2, to a partition, `root` by default; until the end of the lease.

        Raises OSError while the board is on, ValueError for an image or a partition that cannot be.
        """
        partition = _partition(target)
        self.vm.check_off()
        path = self.vm.disks.incoming(partition)
        try:
            await write_image(self, source, path)
            await self.vm.put(partition, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    async def dump(self, target: str | None = None) -> Resource:
        """Read a partition as the guest has left it, raw, and return the handle of what was read.

        Raises OSError while the board is on, ValueError for one that is empty.
        """
        partition = _partition(target)
        path = await self.vm.dump(partition)
        try:
            return await read_image(self, path, f"{partition}.img")
        finally:
            if partition in WRITTEN:
                path.unlink(missing_ok=True)


def _partition(target: str | None) -> Partition:
    for each in PARTITIONS:
        if each == (target or "root"):
            return each
    raise ValueError(f"no partition {target!r}: there is {', '.join(PARTITIONS)}")
