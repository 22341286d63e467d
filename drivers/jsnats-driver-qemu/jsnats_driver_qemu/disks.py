"""The files of a virtual board, in a folder that is gone with it.

An image is never written to: the guest writes to a qcow2 beside it, so that it is as new again by removing that, takes
no time to begin with, and can hold snapshots. What a killed agent left is removed by the next one: it holds no lock.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from .board import WRITTEN, Partition
from .image import Image
from .process import qemu_img

PREFIX: Final = "jsnats-qemu-"


class Disks:
    """The partitions of one board.

    `defaults` are those it has before anything is flashed, `sizes` the bytes that the guest is to see of one, at least
    those of the image. `blank` are there without an image.
    """

    def __init__(
        self,
        where: Path,
        defaults: Mapping[Partition, Path],
        sizes: Mapping[Partition, int],
        blank: Collection[Partition],
    ) -> None:
        self._blank = blank
        self._where = where
        self._defaults = defaults
        self._sizes = sizes
        self._lock: int | None = None
        self._folder: Path | None = None
        self._flashed: dict[Partition, Image] = {}
        self.instance = str(uuid.uuid4())

    @property
    def folder(self) -> Path:
        """Where they are; made when it is asked for. Raises OSError."""
        if self._folder is None:
            _sweep(self._where)
            folder = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=self._where))
            self._lock = _locked(folder)
            self._folder = folder.rename(folder.with_name(folder.name[1:]))  # others may see it, now that it is held
        return self._folder

    def image(self, partition: Partition) -> Image | None:
        """What was flashed, else the default. Raises OSError and ValueError for a default that cannot be used."""
        if partition in self._flashed:
            return self._flashed[partition]
        default = self._defaults.get(partition)
        return Image.of(default.absolute()) if default else None

    def incoming(self, partition: Partition) -> Path:
        """A new empty file to write an image to, which `put` makes the partition."""
        path = self.folder / f"{partition}.{uuid.uuid4()}"
        path.touch(0o600)
        return path

    def put(self, partition: Partition, path: Path) -> None:
        """Make the partition of an image that was written. Raises ValueError for one that cannot be used, OSError."""
        if not path.exists():
            raise OSError("the board was destroyed while it was flashed")
        image = Image.of(path)
        self._check_size(partition, image)
        if not image.size:
            raise ValueError("the image is empty")
        self._snapshots_end()
        (self.folder / f"{partition}.qcow2").unlink(missing_ok=True)
        if old := self._flashed.get(partition):
            old.path.unlink(missing_ok=True)
        self._flashed[partition] = image

    def _check_size(self, partition: Partition, image: Image) -> None:
        room = self._sizes.get(partition, image.size)
        if partition in WRITTEN and image.size > room:
            raise ValueError(f"the image of {image.size} bytes does not fit: {partition} has {room}")

    def _snapshots_end(self) -> None:
        """They are of the whole board, which is another one now."""
        (self.folder / "vmstate.qcow2").unlink(missing_ok=True)

    async def ready(self, partitions: tuple[Partition, ...]) -> dict[Partition, Path]:
        """The files for QEMU of the partitions that there are, made where they are not. Raises OSError, ValueError."""
        images = {each: await asyncio.to_thread(self.image, each) for each in partitions}
        files = {each: image.path for each, image in images.items() if image}
        for each in WRITTEN:
            if each in files or (each in partitions and each in self._blank):
                files[each] = await self._written(each, images[each])
        if not (state := self.folder / "vmstate.qcow2").exists():
            await _create(state, "1M")
        return files

    async def _written(self, partition: Partition, image: Image | None) -> Path:
        path = self.folder / f"{partition}.qcow2"
        if not path.exists():
            if image:
                self._check_size(partition, image)
            backing = ["-b", str(image.path), "-F", image.format] if image else []
            await _create(path, str(self._sizes.get(partition) or (image.size if image else 0)), *backing)
        return path

    async def export(self, partition: Partition) -> Path:
        """A raw file of what is on the partition now: the caller's, to remove, unless it is the image itself."""
        files = await self.ready((partition,))
        if partition not in files:
            raise ValueError(f"there is nothing in {partition}: flash it, or give it a size")
        if partition not in WRITTEN:
            return files[partition]
        target = self.folder / f"dump.{uuid.uuid4()}"
        try:
            await qemu_img("convert", "-f", "qcow2", "-O", "raw", str(files[partition]), str(target))
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return target

    async def destroy(self) -> None:
        """Remove everything; what comes next is another board."""
        folder, lock = self._folder, self._lock
        self._folder = self._lock = None
        self._flashed.clear()
        self.instance = str(uuid.uuid4())
        if folder and lock is not None:
            try:
                await asyncio.to_thread(shutil.rmtree, folder, True)
            finally:
                os.close(lock)


async def _create(path: Path, size: str, *backing: str) -> None:
    made = path.with_suffix(".new")  # one that was cut short is none
    await qemu_img("create", "-q", "-f", "qcow2", *backing, str(made), size)
    made.rename(path)


def _locked(folder: Path) -> int:
    """Hold a folder. Raises BlockingIOError if another process does."""
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _sweep(where: Path) -> None:
    """Remove the folders whose agent is gone."""
    for folder in where.glob(f"{PREFIX}*/lock"):
        try:
            lock = _locked(folder.parent)
        except OSError:
            continue  # in use, or another user's
        shutil.rmtree(folder.parent, ignore_errors=True)
        os.close(lock)
