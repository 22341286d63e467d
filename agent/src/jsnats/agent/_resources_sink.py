"""A file that a driver makes, on its way to the store: written beside the cache first, because its hash is its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import rmtree

from jsnats.schemas import blob_handle
from jsnats.sdk import Blobs

from ._cache import Cache, writing_to
from ._made import made_in_thread

_GROUP_BYTES = 1 << 20


class Sink:
    """Takes the bytes. `handle` is "" until the block has ended."""

    def __init__(self, path: Path, cache: Cache) -> None:
        self.handle = ""
        self._cache = cache
        self._file = path.open("wb", buffering=0)
        self._pieces: list[bytes] = []
        self._held = 0

    async def send(self, data: bytes) -> None:
        """Take the next bytes. Raises OSError when the disk is full."""
        self._pieces.append(bytes(data))
        self._held += len(data)
        if self._held >= _GROUP_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write what is held."""
        pieces, self._pieces, self._held = self._pieces, [], 0
        with writing_to(self._cache.directory):
            await asyncio.to_thread(self._cache.write, self._file, pieces)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@asynccontextmanager
async def spool(blobs: Blobs, cache: Cache, name: str) -> AsyncIterator[Sink]:
    """A new file, uploaded when the block ends well, and kept in the cache. Raises StorageFull, OSError."""
    with writing_to(cache.directory):
        folder = await made_in_thread(cache.workspace, release=rmtree)
    try:
        path = folder / "new"
        sink = Sink(path, cache)
        try:
            yield sink
            await sink.flush()
        finally:
            sink.close()
        info = await blobs.put(path, name=name)
        sink.handle = blob_handle(info.sha256, name)
        await asyncio.to_thread(cache.adopt, path, info.sha256)
    finally:
        await asyncio.to_thread(rmtree, folder, True)
