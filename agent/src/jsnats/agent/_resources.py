"""The files that drivers read and make: from the lab's store by way of the cache, from http(s) servers, and back.

A file is handed to the driver while it arrives, and checked while it is handed over: a driver waits neither for all of
it nor for its upload, and learns at the end whether it was right. The same bytes go into the cache on the way; when
that has no room, they go past it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from jsnats.driver import Driver, ResourceFile, ResourceSink, ResourceStream
from jsnats.schemas import BlobCorrupt, BlobNotFound, BlobRecord, Handle, parse_handle
from jsnats.sdk import Blobs, Bulk, Connection, FoundBlob

from ._cache import DEFAULT_BYTES, Cache, Filling, default_directory
from ._fetch import Fetcher
from ._made import made_in_thread
from ._resources_file import CachedFile
from ._resources_sink import spool

log = logging.getLogger("jsnats.agent")

_BLOCK = 1 << 20
_GROUP = 4
"""Chunks that are written by one hop to a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSettings:
    """Where an exporter keeps fetched files (None: the user's cache directory), how many bytes of them, and the hosts
    that it fetches URLs from."""

    cache: Path | None = None
    max_bytes: int = DEFAULT_BYTES
    fetch: tuple[str, ...] = ()


class AgentResources:
    """What an exporter gives to its drivers. Files travel over `bulk`."""

    def __init__(self, connection: Connection, bulk: Bulk, settings: FileSettings) -> None:
        self.cache = Cache(settings.cache or default_directory(), settings.max_bytes)
        self.blobs = Blobs(connection, bulk)
        self.loop = asyncio.get_running_loop()
        self._fetcher = Fetcher(settings.fetch)

    def give(self, drivers: Iterable[Driver]) -> None:
        """Let drivers use them."""
        for driver in drivers:
            vars(driver)["_resources"] = self

    # ------------------------------------------------------------------ what drivers use

    @asynccontextmanager
    async def open(self, handle: str) -> AsyncIterator[ResourceStream]:
        """The file as it is stored. See Driver.resource; leaving the block early still reads and checks a blob."""
        parsed = parse_handle(handle)
        if parsed.url:
            async with self._fetcher.open(parsed.url, parsed.name) as stream:
                yield stream
            return
        stream = await self._blob(parsed)
        async with aclosing(stream):
            yield stream
            async for _ in stream:  # what was read may be wrong though the driver did not want the rest
                pass

    def create(self, name: str) -> AbstractAsyncContextManager[ResourceSink]:
        """A new file. See Driver.new_resource."""
        return spool(self.blobs, self.cache, name)

    def file(self, handle: str, *, decompress: bool) -> ResourceFile:
        """The file in the file system. See Driver.resource_file."""
        return CachedFile(self, parse_handle(handle), handle, decompress)

    # ------------------------------------------------------------------ blobs

    async def _blob(self, handle: Handle) -> ResourceStream:
        kept = await made_in_thread(self.cache.open, handle.sha256, release=_close)
        if kept:
            pieces = self._from_cache(handle.sha256, kept)
            return ResourceStream(pieces, name=handle.name, size=os.fstat(kept.fileno()).st_size)
        found = await self.look_up(handle.sha256)
        return ResourceStream(self._from_store(found), name=handle.name or found.blob.name, size=found.blob.size)

    async def look_up(self, sha256: str) -> FoundBlob:
        """What the store knows of a file. Raises BlobNotFound."""
        with _as_argument(sha256):
            return await self.blobs.look_up(sha256)

    async def _from_cache(self, sha256: str, file: BinaryIO) -> AsyncGenerator[bytes, None]:
        digest = hashlib.sha256()

        def block() -> bytes:
            data = file.read(_BLOCK)
            digest.update(data)
            return data

        try:
            while data := await asyncio.to_thread(block):
                yield data
        finally:
            file.close()
        if digest.hexdigest() != sha256:
            self.cache.drop(sha256)
            raise BlobCorrupt(
                f"the copy of {sha256[:12]} in {self.cache.directory} was damaged and is removed: call again",
                detail={"sha256": sha256},
            )

    async def _from_store(self, found: FoundBlob) -> AsyncGenerator[bytes, None]:
        with _as_argument(found.blob.sha256):
            async with _Keeper(self.cache, found.blob) as keeper, aclosing(self.blobs.read(found)) as pieces:
                async for data in pieces:
                    await keeper.add(data)
                    yield data
                await keeper.commit()


@contextmanager
def _as_argument(sha256: str) -> Iterator[None]:
    """Say of a file that is not there which one that was: its uploader can mend it."""
    try:
        yield
    except BlobNotFound as error:
        raise BlobNotFound(f"{error.message}: upload it again", detail={"sha256": sha256}) from error


def _close(file: BinaryIO | None) -> None:
    if file:
        file.close()


def _discard(filling: Filling | None) -> None:
    if filling:
        filling.discard()


class _Keeper:
    """Writes pieces into the cache in a thread, four at a time, while the next ones arrive; gives up quietly."""

    def __init__(self, cache: Cache, blob: BlobRecord) -> None:
        self._cache = cache
        self._sha256 = blob.sha256
        self._size = blob.size
        self._filling: Filling | None = None
        self._pieces: list[bytes] = []
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> _Keeper:
        try:
            self._filling = await made_in_thread(self._cache.begin, self._sha256, self._size, release=_discard)
        except OSError as error:
            self._give_up(error)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._writing:
            await asyncio.wait({self._writing})
        if self._filling:
            self._filling.discard()

    async def add(self, data: bytes) -> None:
        """Keep what comes next."""
        if self._filling is None:
            return
        self._pieces.append(data)
        if len(self._pieces) == _GROUP:
            await self._write()

    async def _write(self) -> None:
        await self._written()
        if self._filling:
            pieces, self._pieces = self._pieces, []
            self._writing = asyncio.ensure_future(asyncio.to_thread(self._filling.write, pieces))

    async def _written(self) -> None:
        if self._writing:
            try:
                await self._writing
            except OSError as error:
                self._give_up(error)
            self._writing = None

    async def commit(self) -> None:
        """All of it came, and is right."""
        await self._write()
        await self._written()
        if self._filling:
            try:
                await asyncio.to_thread(self._filling.commit)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        log.warning("%s is not kept in the cache %s: %s", self._sha256[:12], self._cache.directory, error.strerror)
        if self._filling:
            self._filling.discard()
            self._filling = None
