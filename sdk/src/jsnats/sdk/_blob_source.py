"""What can be uploaded: read by position, so that any chunk can be sent again and none is kept in memory.

A file is read where it lies, bytes are sliced, and anything that can only be read once is written to a temporary file
while its hash is made. Everything here blocks, and is called in a thread.

What is read goes into a buffer that is used again. New bytes for each MiB of a file cost the client as much as the
kernel's work on them: every page of them is new to the process, 140 000 for an image of 256 MiB.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import AsyncIterable, Callable
from pathlib import Path
from threading import Event
from typing import BinaryIO, Protocol

from jsnats.schemas import ConfigurationError

_BLOCK = 1 << 20

Anything = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | AsyncIterable[bytes]
"""What `put` takes."""


class Source(Protocol):
    """Bytes at positions. `name` is what a file is called, "" if nothing is known."""

    size: int
    name: str

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with the bytes there, which are as many. Raises ConfigurationError when they are gone."""

    def hash(self, stop: Event) -> str:
        """SHA-256 in hex of all of it; leaves early, with anything, when `stop` is set."""

    def check(self) -> None:
        """Raise ConfigurationError if it has changed since it was hashed."""

    def close(self) -> None:
        """Let go of it."""


class BytesSource:
    """Bytes in memory."""

    name = ""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self.size = len(self._data)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """See Source."""
        buffer[:] = self._data[offset : offset + len(buffer)]

    def hash(self, stop: Event) -> str:
        """See Source."""
        return hashlib.sha256(self._data).hexdigest()

    def check(self) -> None:
        """See Source."""

    def close(self) -> None:
        """See Source."""
        self._data.release()


class FileSource:
    """An open file, from position `begin` to its end. `owned` files are closed by `close`."""

    def __init__(self, file: BinaryIO, begin: int = 0, *, owned: bool = True) -> None:
        self._file = file if owned else None
        self._handle = file.fileno()
        self._begin = begin
        self.name = file.name if isinstance(file.name, str) else ""
        self._stamp = self._look()
        self.size = max(0, self._end() - begin)

    def _end(self) -> int:
        found = os.fstat(self._handle)
        return found.st_size if stat.S_ISREG(found.st_mode) else os.lseek(self._handle, 0, os.SEEK_END)

    def _look(self) -> tuple[int, int]:
        found = os.fstat(self._handle)
        return found.st_mtime_ns, found.st_size

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """See Source."""
        done = 0
        while done < len(buffer):  # a signal, or a file system that gives less
            count = os.preadv(self._handle, [buffer[done:]], self._begin + offset + done)
            if not count:
                raise self._changed()
            done += count

    def hash(self, stop: Event) -> str:
        """See Source."""
        digest, buffer = hashlib.sha256(), memoryview(bytearray(_BLOCK))
        for offset in range(0, self.size, _BLOCK):
            if stop.is_set():
                break
            block = buffer[: self.size - offset]
            self.readinto(offset, block)
            digest.update(block)
        return digest.hexdigest()

    def check(self) -> None:
        """See Source."""
        if self._look() != self._stamp:
            raise self._changed()

    def _changed(self) -> ConfigurationError:
        return ConfigurationError(f"{self.name or 'the file'} changed while it was uploaded: upload it again")

    def close(self) -> None:
        """See Source."""
        if self._file:
            self._file.close()


class SpooledSource(FileSource):
    """A temporary file that was hashed while it was written."""

    def __init__(self, file: BinaryIO, digest: str, name: str = "") -> None:
        super().__init__(file)
        self.name = name
        self._digest = digest

    def hash(self, stop: Event) -> str:
        """See Source."""
        return self._digest


class _Spool:
    """Takes pieces, then becomes a source."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="jsnats-")  # noqa: SIM115 - the source closes it
        self._digest = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)

    def fill(self, read: Callable[[int], bytes | None], stop: Event) -> None:
        while not stop.is_set() and (data := read(_BLOCK)):
            self.add(data)

    def source(self, name: str) -> SpooledSource:
        self._file.flush()
        return SpooledSource(self._file, self._digest.hexdigest(), name)

    def close(self) -> None:
        self._file.close()


async def open_source(source: Anything) -> Source:
    """Make anything readable by position. Raises OSError, TypeError, ConfigurationError for a directory."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return BytesSource(source)
    if isinstance(source, (str, os.PathLike)):
        return await _open_path(Path(source))
    if isinstance(source, AsyncIterable):
        return await _spool_pieces(source)
    if isinstance(source, io.BufferedReader) and isinstance(source.raw, io.FileIO) and source.seekable():
        return FileSource(source, source.tell(), owned=False)
    if not hasattr(source, "read"):
        raise TypeError(f"a {type(source).__name__} cannot be uploaded: give a path, bytes or a binary file")
    name = getattr(source, "name", "")
    return await _spool_file(source, name if isinstance(name, str) else "")


async def _open_path(path: Path) -> Source:
    file = await asyncio.to_thread(_open, path)
    if file.seekable():
        return FileSource(file)
    try:
        return await _spool_file(file, path.name)
    finally:
        file.close()


def _open(path: Path) -> BinaryIO:
    if path.is_dir():
        raise ConfigurationError(f"{path} is a directory: upload an archive of it, or its files one by one")
    return path.open("rb")


async def _spool_file(file: BinaryIO, name: str) -> Source:
    spool, stop = _Spool(), Event()
    try:
        await asyncio.to_thread(spool.fill, file.read, stop)
    except BaseException:
        stop.set()
        spool.close()
        raise
    return spool.source(name)


async def _spool_pieces(pieces: AsyncIterable[bytes]) -> Source:
    spool = _Spool()
    try:
        async for piece in pieces:
            await asyncio.to_thread(spool.add, piece)
    except BaseException:
        spool.close()
        raise
    return spool.source("")
