"""Images on block devices and files: for drivers that write one themselves, and for the mocks."""

from __future__ import annotations

import asyncio
import os
import tempfile
import weakref
from pathlib import Path

from jsnats.driver import Driver

_BLOCK = 1 << 20


class Medium:
    """A file in place of a device, gone with the object that stands for it."""

    def __init__(self) -> None:
        descriptor, name = tempfile.mkstemp(prefix="jsnats-medium-")
        os.close(descriptor)
        self.path = Path(name)
        self._end = weakref.finalize(self, self.path.unlink, missing_ok=True)


async def write_image(driver: Driver, source: str, path: Path) -> int:
    """Write an image to a device or file that is there, decompressed if need be, with progress; return its bytes.

    When it returns, everything is on the medium. Raises OSError, and what `Driver.resource` raises.
    """
    done, held = 0, list[bytes]()
    async with driver.resource(source) as stream:
        with await asyncio.to_thread(open, path, "wb", 0, opener=_open_existing) as file:
            async for data in stream:
                held.append(data)
                done += len(data)
                if sum(map(len, held)) >= _BLOCK:
                    await asyncio.to_thread(_write, file.fileno(), held)
                    held = []
                    driver.report_progress(done, stream.size, "writing")
            await asyncio.to_thread(_write, file.fileno(), held)
            driver.report_progress(done, done, "waiting for the medium")
            await asyncio.to_thread(_sync, file.fileno())
    return done


async def read_image(driver: Driver, path: Path, name: str = "dump.img") -> str:
    """Read a device or file to its end, and return the handle of what was read."""
    done = 0
    async with driver.new_resource(name) as sink:
        with await asyncio.to_thread(path.open, "rb", 0) as file:
            while data := await asyncio.to_thread(file.read, _BLOCK):
                await sink.send(data)
                done += len(data)
                driver.report_progress(done, None, "reading")
    return sink.handle


def _open_existing(path: str, flags: int) -> int:
    """For a device that is not plugged in, a file in /dev would be made, which takes the host's memory."""
    return os.open(path, flags & ~os.O_CREAT)


def _write(descriptor: int, pieces: list[bytes]) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view) :]


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(f"the medium did not take what was written: {error.strerror}") from error
