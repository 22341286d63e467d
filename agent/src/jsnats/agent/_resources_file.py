"""A resource as a file, for tools that want a path."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from jsnats.driver import ResourceStream, plain
from jsnats.driver._decompress import HEAD, compression_of
from jsnats.schemas import Handle

from ._cache import Cache, digest_of_file, writing_to
from ._made import made_in_thread

if TYPE_CHECKING:
    from ._resources import AgentResources

_GROUP_BYTES = 1 << 20
_MAX_NAME = 100


class CachedFile:
    """One file for one block, in a directory of its own below the cache: a hard link to the cached one, or what is in
    it when it is compressed. For `async with` on the agent's loop and `with` in any other thread."""

    def __init__(self, resources: AgentResources, parsed: Handle, handle: str, decompress: bool) -> None:
        self._resources = resources
        self._parsed = parsed
        self._handle = handle
        self._decompress = decompress
        self._folder: Path | None = None

    def __enter__(self) -> Path:
        return asyncio.run_coroutine_threadsafe(self.__aenter__(), self._resources.loop).result()

    def __exit__(self, *exc: object) -> None:
        self._remove()

    async def __aenter__(self) -> Path:
        cache = self._resources.cache
        try:
            with writing_to(cache.directory):
                self._folder = await made_in_thread(cache.workspace, release=shutil.rmtree)
                return await self._fill(self._folder)
        except BaseException:
            self._remove()
            raise

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self._remove)

    def _remove(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _fill(self, folder: Path) -> Path:
        linked = folder / safe_name(self._parsed.name)
        if not (self._parsed.sha256 and (await self._link(linked) or await self._fetch(linked))):
            return await self._copy(folder)
        packed = self._decompress and await asyncio.to_thread(_compressed, linked)
        return await self._copy(folder) if packed else linked

    async def _link(self, path: Path) -> bool:
        """Link to the file if it is in the cache, and right."""
        return await asyncio.to_thread(_link_checked, self._resources.cache, self._parsed.sha256, path)

    async def _fetch(self, path: Path) -> bool:
        """Fetch the file into the cache and link to it. False if it does not fit there."""
        cache, sha256 = self._resources.cache, self._parsed.sha256
        if (await self._resources.look_up(sha256)).blob.size > cache.max_bytes:
            return False
        async with self._resources.open(self._handle):
            pass  # leaving it reads all of it
        return await asyncio.to_thread(cache.link, sha256, path)

    async def _copy(self, folder: Path) -> Path:
        async with self._resources.open(self._handle) as stored:
            stream = await plain(stored) if self._decompress else stored
            path = folder / safe_name(stream.name)
            path.unlink(missing_ok=True)
            await _save(stream, path)
        return path


async def _save(stream: ResourceStream, path: Path) -> None:
    with path.open("wb") as file:
        pieces: list[bytes] = []
        async for data in stream:
            pieces.append(data)
            if sum(map(len, pieces)) >= _GROUP_BYTES:
                await asyncio.to_thread(file.writelines, pieces)
                pieces = []
        await asyncio.to_thread(file.writelines, pieces)


def _link_checked(cache: Cache, sha256: str, path: Path) -> bool:
    if not cache.link(sha256, path):
        return False
    if digest_of_file(path) == sha256:
        with suppress(OSError):
            os.utime(path)  # used now
        return True
    cache.drop(sha256)
    path.unlink()
    return False


def _compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(compression_of(file.read(HEAD)))


def safe_name(name: str) -> str:
    """A file name made of a name that a user chose: for its suffix, never for a place."""
    plain_name = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[-_MAX_NAME:].lstrip(".-")
    return plain_name or "resource"
