"""A device or file that an image is written to: taken for oneself, written, synced, and read back.

What blocks is in threads. A thread that writes is waited for, whoever cancels: closing the file under it would let it
write into whatever is opened next.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")

BLOCK = 1 << 20
SYNC_EVERY = 16 << 20
"""Bytes after which a device is synced: progress is then that of the device and not of the host's memory, and a cancel
does not wait until gigabytes of that have been written."""

_TOLD = {
    errno.EBUSY: "is mounted, or in use by another program",
    errno.EIO: "failed or was unplugged",
    errno.ENODEV: "was unplugged",
    errno.ENOMEDIUM: "has no medium in it",
    errno.ENXIO: "was unplugged",
    errno.EROFS: "is write-protected",
}


class Medium:
    """An open device or file. `done` bytes were written, `digest` is that of them."""

    def __init__(self, path: Path, descriptor: int, sync_timeout: float | None) -> None:
        self.path = path
        self.done = 0
        self.digest = hashlib.sha256()
        self._descriptor = descriptor
        self._sync_timeout = sync_timeout
        self._synced = 0
        is_device = stat.S_ISBLK(os.fstat(descriptor).st_mode)
        self.size = medium_size(descriptor) if is_device else None  # a file grows

    @classmethod
    @asynccontextmanager
    async def written(cls, path: Path, sync_timeout: float | None = None) -> AsyncIterator[Self]:
        """Open a device or file that is there, and nobody else's, to write it from its begin. Raises OSError."""
        descriptor = await to_the_end(_open_to_write, path)
        try:
            yield cls(path, descriptor, sync_timeout)
        finally:
            await to_the_end(os.close, descriptor)  # writes what is left in memory, on a device

    def check_room(self, size: int | None) -> None:
        """Raise OSError when so many bytes are more than the device has."""
        if size is not None and self.size is not None and size > self.size:
            raise OSError(f"the image has {size} bytes, and {self.path} has room for {self.size}")

    async def write(self, pieces: list[bytes]) -> None:
        """Write the next bytes. Raises OSError."""
        await to_the_end(self._write, pieces)
        if self.size is not None and self.done - self._synced >= SYNC_EVERY:
            await self.sync()

    async def sync(self) -> None:
        """Wait until all that was written is on the medium. Raises OSError, TimeoutError."""
        try:
            async with asyncio.timeout(self._sync_timeout):
                await asyncio.to_thread(_sync, self._descriptor)
        except TimeoutError as error:
            told = f"{self.path} did not take within {self._sync_timeout:g} s what was written"
            raise TimeoutError(told) from error
        self._synced = self.done

    def _write(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            view = memoryview(piece)
            with explained(self.path, f" at byte {self.done}"):
                while view:
                    view = view[os.write(self._descriptor, view) :]
            self.done += len(piece)
            self.digest.update(piece)


async def verify(path: Path, size: int, digest: str, tell: Callable[[int], None]) -> None:
    """Read so many bytes back from the medium itself. Raises OSError when they are not those of the digest."""
    found = hashlib.sha256()
    descriptor = await to_the_end(_open_to_compare, path)
    try:
        for begin in range(0, size, BLOCK):
            await to_the_end(_compare, path, descriptor, min(BLOCK, size - begin), found)
            tell(min(begin + BLOCK, size))
    finally:
        await to_the_end(os.close, descriptor)
    if found.hexdigest() != digest:
        raise OSError(f"{path} does not give back what was written: it is worn out, or smaller than it says")


def medium_size(descriptor: int) -> int | None:
    """Bytes of an open block device or file, at whose begin it is then; None of anything else."""
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISBLK(mode) and not stat.S_ISREG(mode):
        return None
    size = os.lseek(descriptor, 0, os.SEEK_END)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return size


async def to_the_end(work: Callable[..., T], *args: Any) -> T:
    """Run it in a thread and come back when it is done, also when cancelled."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


@contextmanager
def explained(path: Path, where: str = "") -> Iterator[None]:
    """Raise an OSError of the same class that says in words what is wrong with the medium."""
    try:
        yield
    except OSError as error:
        if isinstance(error, PermissionError):
            raise PermissionError(f"{path}: the exporter's user may not do that: give it the device's group") from error
        told = _TOLD.get(error.errno or 0)
        raise type(error)(f"{path} {told}{where}" if told else f"{path}{where}: {error.strerror or error}") from error


def _open_to_write(path: Path) -> int:
    # Without O_CREAT: for a device that is not plugged in, a file in /dev would be made, which takes the host's
    # memory. With O_EXCL: a disk that is mounted is not opened.
    with explained(path):
        flags = os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC
        return os.open(path, flags | (os.O_EXCL if path.is_block_device() else 0))


def _open_to_compare(path: Path) -> int:
    with explained(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # else it is the host's memory that is compared
        return descriptor


def _compare(path: Path, descriptor: int, size: int, found: Any) -> None:
    with explained(path, " while it was compared"):
        while size:
            data = os.read(descriptor, size)
            if not data:
                return  # shorter than what was written: the digest differs
            found.update(data)
            size -= len(data)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(f"the medium did not take what was written: {error.strerror}") from error
