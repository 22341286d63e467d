"""The card as a disk of this host: found by where its reader is plugged in, and waited for."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from pathlib import Path
from typing import Any

from jsnats_driver_opendal.medium import explained, medium_size

from .bus import Kind, port
from .mux import SDWIRE3

SYS = Path("/sys")
DEV = Path("/dev")

POLL_S = 0.1
_NOT_YET = (errno.ENOENT, errno.ENOMEDIUM, errno.ENXIO, errno.EIO, errno.ENODEV)


def reader(kind: Kind, device: Any) -> Path:
    """Folder in sysfs below which the reader's disk is: of the SDWire3 itself, or of the hub inside an SDWire, on which
    the reader and the switch are neighbours. Raises ConnectionError when it is gone."""
    try:
        own = (SYS / "bus/usb/devices" / port(device)).resolve(strict=True)
    except OSError as error:
        raise ConnectionError(f"there is no {error.filename}: the SDWire was unplugged") from error
    if kind is SDWIRE3:
        return own
    if own.parent.name.startswith("usb"):
        raise ValueError("the SDWire's switch is not on a hub with a reader: say its disk by storage_device")
    return own.parent


def disk(folder: Path) -> Path | None:
    """The disk of the reader; None while there is none. Raises ValueError for several, or one that is no card."""
    found = [each for each in (SYS / "class/block").glob("*") if _is_disk_below(each, folder)]
    if len(found) > 1:
        names = ", ".join(sorted(each.name for each in found))
        raise ValueError(f"there are several disks beside the SDWire's switch ({names}): say which by storage_device")
    if found and (found[0] / "removable").read_text().strip() != "1":
        raise ValueError(
            f"{found[0].name} beside the SDWire's switch is no card reader: say the disk by storage_device"
        )
    return DEV / found[0].name if found else None


def _is_disk_below(block: Path, folder: Path) -> bool:
    return block.resolve().is_relative_to(folder) and not (block / "partition").exists()


async def ready(where: Path, by_reader: bool, timeout: float) -> Path:
    """The disk with a card in it, when it is there: `where` itself, or the disk below that folder in sysfs.

    Raises TimeoutError when no disk appears, FileNotFoundError when it has no card, ValueError, PermissionError.
    """
    deadline = time.monotonic() + timeout
    while True:
        path, size = await asyncio.to_thread(_look, where, by_reader)
        if path and size:
            return path
        if time.monotonic() >= deadline:
            break
        await asyncio.sleep(POLL_S)
    if path and size is not None:
        raise FileNotFoundError(f"{path} has no card in it: its size is still 0 after {timeout:g} s")
    told = path or "the disk of the SDWire's reader"
    raise TimeoutError(f"{told} did not appear within {timeout:g} s: is a card in the SDWire?")


def _look(where: Path, by_reader: bool) -> tuple[Path | None, int | None]:
    """The disk and its size in bytes, as far as there are any yet."""
    path = disk(where) if by_reader else where
    if path is None:
        return None, None
    try:
        return path, _size(path)
    except OSError as error:
        if error.errno not in _NOT_YET:
            with explained(path):
                raise
        return path, 0 if error.errno == errno.ENOMEDIUM else None


def _size(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = medium_size(descriptor)
    finally:
        os.close(descriptor)
    if size is None:
        raise ValueError(f"{path} is no disk")
    return size


def check_unmounted(path: Path) -> None:
    """Raise OSError when the disk is mounted: the device would change it under the host's feet."""
    if path.is_block_device():
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise OSError(f"{path} is mounted, or in use by another program: unmount it first") from error
