"""Images on block devices and files: for drivers that write one themselves, and for the mocks."""

from __future__ import annotations

import asyncio
import os
import tempfile
import weakref
from io import FileIO
from pathlib import Path

from jsnats.driver import Driver

from .medium import BLOCK, Medium, explained, medium_size, verify as verify_medium


class Scratch:
    """A file in place of a device, gone with the object that stands for it."""

    def __init__(self) -> None:
        descriptor, name = tempfile.mkstemp(prefix="jsnats-medium-")
        os.close(descriptor)
        self.path = Path(name)
        self._end = weakref.finalize(self, self.path.unlink, missing_ok=True)


async def write_image(
    driver: Driver, source: str, path: Path, *, verify: bool = False, sync_timeout: float | None = None
) -> int:
    """Write an image to a device or file that is there, decompressed if need be, with progress; return its bytes.

    When it returns, everything is on the medium; with `verify` it was read back and compared. A device that is mounted
    or too small for the image is not touched. Raises OSError, TimeoutError when the medium takes longer than
    `sync_timeout` s to write what the host has in memory, and what `Driver.resource` raises.
    """
    held = list[bytes]()
    async with driver.resource(source) as stream, Medium.written(path, sync_timeout) as medium:
        medium.check_room(stream.size)
        async for data in stream:
            held.append(data)
            if sum(map(len, held)) >= BLOCK:
                await medium.write(held)
                held = []
                driver.report_progress(medium.done, stream.size, "writing")
        await medium.write(held)
        driver.report_progress(medium.done, medium.done, "waiting for the medium")
        await medium.sync()
    if verify:
        size = medium.done
        await verify_medium(
            path, size, medium.digest.hexdigest(), lambda done: driver.report_progress(done, size, "comparing")
        )
    return medium.done


async def read_image(driver: Driver, path: Path, name: str = "dump.img") -> str:
    """Read a device or file to its end, with progress, and return the handle of what was read. Raises OSError."""
    done = 0
    async with driver.new_resource(name) as sink:
        with await asyncio.to_thread(_opened, path) as file:
            size = medium_size(file.fileno())
            while data := await asyncio.to_thread(_read, path, file):
                await sink.send(data)
                done += len(data)
                driver.report_progress(done, size, "reading")
    return sink.handle


def _opened(path: Path) -> FileIO:
    with explained(path):
        return FileIO(path)


def _read(path: Path, file: FileIO) -> bytes:
    with explained(path, " while it was read"):
        return file.read(BLOCK)
