"""The files that clients have open, by the id that they were given, and the methods that take one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from jsnats.driver import Driver, export

from .faults import mapped

if TYPE_CHECKING:
    from opendal import AsyncOperator
    from opendal.file import AsyncFile

MAX_OPEN = 64
MAX_READ = 512 << 10
"""The most that one call reads: the answer fits in one message."""

_MODES = {"r": "rb", "rb": "rb", "w": "wb", "wb": "wb", "a": "ab", "ab": "ab"}


@dataclass(slots=True)
class OpenFile:
    """An open file, and the path to name it by in an error."""

    path: str
    file: AsyncFile


class Files:
    """Open files of one storage."""

    def __init__(self, operator: AsyncOperator) -> None:
        self._operator = operator
        self._open: dict[str, OpenFile] = {}

    async def open(self, path: str, mode: str) -> str:
        """Open and return an id. Raises ValueError, FileNotFoundError, OSError."""
        if mode not in _MODES:
            raise ValueError(f"mode {mode!r} is none of rb, wb, ab: files are opened to read, to write or to append")
        if len(self._open) >= MAX_OPEN:
            raise OSError(f"{MAX_OPEN} files are open already: close some")
        with mapped(path):
            file = await self._opened(path, _MODES[mode])
        fd = str(uuid4())
        self._open[fd] = OpenFile(path, file)
        return fd

    async def _opened(self, path: str, mode: str) -> AsyncFile:
        if mode == "rb":
            await self._operator.stat(path)  # opening alone does not look whether it is there
            return await self._operator.open(path, "rb")
        if mode == "wb":
            return await self._operator.open(path, "wb")
        return await self._operator.open(path, "wb", append=True)

    def get(self, fd: str) -> OpenFile:
        """The file of an id. Raises ValueError for one that was closed."""
        if fd not in self._open:
            raise ValueError(f"no open file has the id {fd[:36]!r}: it was closed, or the lease has ended")
        return self._open[fd]

    def is_open(self, fd: str) -> bool:
        """Say whether it was not closed yet."""
        return fd in self._open

    async def close(self, fd: str) -> None:
        """Close it, if it is open; what was written is complete only then."""
        found = self._open.pop(fd, None)
        if found:
            with mapped(found.path):
                await found.file.close()

    async def close_all(self) -> None:
        """Close what is left. Raises the last of the errors."""
        failed: Exception | None = None
        for fd in list(self._open):
            try:
                await self.close(fd)
            except OSError as error:
                failed = error
        if failed:
            raise failed


class FileMethods(Driver):
    """The methods of a storage that take the id of an open file."""

    _files: Files

    @export
    async def file_read(self, fd: str, size: int = -1) -> bytes:
        """Read at most `size` bytes, and never more than 512 KiB; nothing at the end of the file."""
        found = self._files.get(fd)
        with mapped(found.path):
            return await found.file.read(MAX_READ if size < 0 else min(size, MAX_READ))

    @export
    async def file_write(self, fd: str, data: bytes) -> int:
        """Write, and return how many bytes that were. The file is complete when it is closed."""
        found = self._files.get(fd)
        with mapped(found.path):
            return await found.file.write(data)

    @export
    async def file_seek(self, fd: str, pos: int, whence: int = 0) -> int:
        """Go to a position, from the start (0), from here (1) or from the end (2), and return it; for reading only."""
        found = self._files.get(fd)
        if whence == 0 and pos < 0:  # OpenDAL takes it for one beyond 2^63
            raise ValueError(f"negative seek position {pos}")
        with mapped(found.path):
            return await found.file.seek(pos, whence)

    @export
    async def file_tell(self, fd: str) -> int:
        """Position in a file that is read."""
        found = self._files.get(fd)
        with mapped(found.path):
            return await found.file.tell()

    @export
    async def file_close(self, fd: str) -> None:
        """Close a file; nothing happens if it is closed already."""
        await self._files.close(fd)

    @export
    async def file_closed(self, fd: str) -> bool:
        """Say whether a file was closed."""
        return not self._files.is_open(fd)

    @export
    async def file_readable(self, fd: str) -> bool:
        """Say whether a file was opened to read."""
        return await self._files.get(fd).file.readable()

    @export
    async def file_seekable(self, fd: str) -> bool:
        """Say whether the position of a file can be changed."""
        return await self._files.get(fd).file.seekable()

    @export
    async def file_writable(self, fd: str) -> bool:
        """Say whether a file was opened to write."""
        return await self._files.get(fd).file.writable()
