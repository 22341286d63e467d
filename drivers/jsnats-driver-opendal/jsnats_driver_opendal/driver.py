"""The exporter's side: a storage of files, on a disk of this host or elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import field
from itertools import accumulate
from pathlib import Path

from pydantic.dataclasses import dataclass

from jsnats.driver import Resource, export
from jsnats.schemas import ConfigurationError

from .common import Metadata, PresignedRequest
from .faults import foreign, mapped, reason
from .files import FileMethods, Files
from .flasher import FlasherInterface, MockFlasher, MockStorageMux, StorageMuxInterface
from .paths import check_inside, clean

__all__ = ["FlasherInterface", "MockFlasher", "MockStorageMux", "Opendal", "StorageMuxInterface"]

_BLOCK = 1 << 20
_SCHEME = re.compile("[a-z0-9-]+")

# Here, because `list` is a method below.
Paths = list[str]
Abilities = dict[str, bool | int | None]


@dataclass(kw_only=True)
class Opendal(FileMethods):
    """Files of any storage that OpenDAL knows: `scheme` is `fs`, `memory`, `http`, `s3` and so on, `kwargs` its
    configuration. With `remove_created_on_close`, what was made during a lease is removed at its end."""

    scheme: str
    kwargs: dict[str, str] = field(repr=False)  # it may hold secrets
    remove_created_on_close: bool = False

    @classmethod
    def client(cls) -> str:
        """Return the client of every storage."""
        return "jsnats_driver_opendal.client.OpendalClient"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _SCHEME.fullmatch(self.scheme):  # OpenDAL takes FS and fs://x for fs, and the rules of fs would not hold
            raise ConfigurationError(f"scheme {self.scheme!r}: say the name of a service in lower case, such as fs")
        import opendal  # 7 MiB that an exporter with nothing but flashers saves

        try:
            self._operator = opendal.AsyncOperator(self.scheme, **self.kwargs)
        except foreign() as error:
            raise ConfigurationError(f"{self.scheme}: {reason(error)}") from error
        self._root = Path(self.kwargs["root"]) if self.scheme in ("fs", "file") else None
        self._files = Files(self._operator)
        self._created: dict[str, None] = {}

    async def close(self) -> None:
        """Close what is open; remove what was made, if that is asked for."""
        try:
            await self._files.close_all()
        finally:
            created, self._created = list(self._created), {}
            if self.remove_created_on_close:
                for path in reversed(created):
                    await self._remove(path)

    async def stop(self) -> None:
        """Let OpenDAL's threads come to rest: Python 3.11 aborted in 6 of 30 runs that ended right behind a result."""
        await asyncio.sleep(0.05)

    # ------------------------------------------------------------------ whole files

    @export
    async def write(self, path: str, src: Resource) -> None:
        """Write a file, byte for byte; when that fails, none is left."""
        path = self._path(path)
        async with self.resource(src, decompress=False) as stream:
            fd, done = await self.open(path, "wb"), 0
            try:
                try:
                    async for data in stream:
                        await self.file_write(fd, data)
                        done += len(data)
                        self.report_progress(done, stream.size, f"writing {path}")
                finally:
                    await self.file_close(fd)
            except BaseException:
                await self._remove(path)
                raise

    @export
    async def read(self, path: str) -> Resource:
        """Read a file, and return its handle."""
        path = self._path(path)
        async with self.new_resource(path.rpartition("/")[2]) as sink:
            async for data in self._blocks(path):
                await sink.send(data)
        return sink.handle

    @export
    async def hash(self, path: str, algo: str = "sha256") -> str:
        """Digest of a file, in hex, by any algorithm of Python's hashlib with a digest of fixed length."""
        if algo not in hashlib.algorithms_available or algo.startswith("shake"):
            raise ValueError(f"there is no hash algorithm {algo!r}: use sha256, sha1, md5, blake2b, ...")
        digest = hashlib.new(algo)
        async for data in self._blocks(self._path(path)):
            await asyncio.to_thread(digest.update, data)
        return digest.hexdigest()

    async def _blocks(self, path: str) -> AsyncGenerator[bytes, None]:
        with mapped(path):
            await self._operator.stat(path)
            file = await self._operator.open(path, "rb")
            try:
                while data := await file.read(_BLOCK):
                    yield data
            finally:
                await file.close()

    # ------------------------------------------------------------------ open files

    @export
    async def open(self, path: str, mode: str) -> str:
        """Open a file to read (`rb`), write (`wb`) or append (`ab`), and return its id for the `file_` methods."""
        path = self._path(path)
        if mode.startswith("r"):
            return await self._files.open(path, mode)
        async with self._making(path):
            return await self._files.open(path, mode)

    # ------------------------------------------------------------------ names

    @export
    async def stat(self, path: str) -> Metadata:
        """What the storage knows of a file or directory; the path of a directory ends in a slash."""
        path = self._path(path)
        with mapped(path):
            found = await self._operator.stat(path)
        mode = "file" if found.is_file else "dir" if found.is_dir else "unknown"
        rest = {name: getattr(found, name) for name in Metadata.model_fields if name != "mode"}
        return Metadata(mode=mode, **rest)

    @export
    async def exists(self, path: str) -> bool:
        """Say whether there is such a file or directory."""
        path = self._path(path)
        with mapped(path):
            return await self._operator.exists(path)

    @export
    async def list(self, path: str = "") -> AsyncGenerator[str, None]:
        """Yield the paths in a directory; those of directories end in a slash."""
        async for entry in self._entries(path, recursive=False):
            yield entry

    @export
    async def scan(self, path: str = "") -> AsyncGenerator[str, None]:
        """Yield the paths below a directory, at any depth."""
        async for entry in self._entries(path, recursive=True):
            yield entry

    async def _entries(self, path: str, *, recursive: bool) -> AsyncGenerator[str, None]:
        path = self._path(f"{path}/")
        with mapped(path):
            async for entry in await self._operator.list(path, recursive=recursive):
                if entry.path not in (path, "/"):
                    yield entry.path

    @export
    async def copy(self, source: str, target: str) -> None:
        """Copy a file; on a storage that cannot, through the exporter."""
        source, target = self._path(source), self._path(target)
        async with self._making(target):
            with mapped(source):
                if self._operator.capability().copy:
                    await self._operator.copy(source, target)
                else:
                    await self._copy_through(source, target)

    async def _copy_through(self, source: str, target: str) -> None:
        await self._operator.stat(source)
        file = await self._operator.open(target, "wb")
        try:
            async for data in self._blocks(source):
                await file.write(data)
        finally:
            await file.close()

    @export
    async def rename(self, source: str, target: str) -> None:
        """Rename a file; on a storage that cannot, by a copy."""
        source, target = self._path(source), self._path(target)
        if source == target:  # OpenDAL refuses it where it renames itself; a copy and a removal would lose the file
            raise OSError(f"{source}: from and to paths are same")
        if not self._operator.capability().rename:
            await self.copy(source, target)
            await self.delete(source)
            return
        async with self._making(target):
            with mapped(source):
                await self._operator.rename(source, target)
        self._created.pop(source, None)

    @export
    async def create_dir(self, path: str) -> None:
        """Make a directory, and those above it."""
        path = self._path(f"{path}/")
        async with self._making(path):
            with mapped(path):
                await self._operator.create_dir(path)

    @export
    async def delete(self, path: str) -> None:
        """Remove a file or an empty directory; nothing happens if there is none."""
        path = self._path(path)
        with mapped(path):
            await self._operator.delete(path)
        self._created.pop(path, None)

    @export
    async def remove_all(self, path: str) -> None:
        """Remove a directory and everything in it."""
        path = self._path(path)
        with mapped(path):
            await self._operator.delete(path, recursive=True)
        below = path if path.endswith("/") or not path else f"{path}/"
        self._created = {each: None for each in self._created if each != path and not each.startswith(below)}

    # ------------------------------------------------------------------ the storage

    @export
    async def presign_stat(self, path: str, expire_second: int) -> PresignedRequest:
        """A request for the metadata of a file that anybody may make to the storage for so many seconds."""
        return await self._presigned("presign_stat", path, expire_second)

    @export
    async def presign_read(self, path: str, expire_second: int) -> PresignedRequest:
        """A request to read a file that anybody may make to the storage for so many seconds."""
        return await self._presigned("presign_read", path, expire_second)

    @export
    async def presign_write(self, path: str, expire_second: int) -> PresignedRequest:
        """A request to write a file that anybody may make to the storage for so many seconds."""
        return await self._presigned("presign_write", path, expire_second)

    async def _presigned(self, what: str, path: str, expire_second: int) -> PresignedRequest:
        path = self._path(path)
        with mapped(path):
            request = await getattr(self._operator, what)(path, expire_second)
        return PresignedRequest(url=request.url, method=request.method, headers=request.headers)

    @export
    async def capability(self) -> Abilities:
        """What the storage can do, by OpenDAL's names: `write`, `presign_read`, `write_can_append`, ..."""
        found = self._operator.capability()
        return {name: getattr(found, name) for name in dir(found) if not name.startswith("_")}

    @export
    async def get_created_resources(self) -> Paths:
        """Paths of the files and directories that were made since the lease began, the oldest first."""
        return [*self._created]

    @export
    async def register_path(self, path: str) -> None:
        """Count a file as made in this lease, whoever made it."""
        self._created[self._path(path)] = None

    @asynccontextmanager
    async def _making(self, path: str) -> AsyncGenerator[None, None]:
        """Count `path` as made in this lease, and the directories above it, if it is the block that makes them."""
        above = accumulate(f"{part}/" for part in path.rstrip("/").split("/")[:-1]) if self._root else ()
        with mapped(path):
            new = [each for each in (*above, path) if not await self._operator.exists(each)]
        yield
        self._created |= dict.fromkeys(new)

    async def _remove(self, path: str) -> None:
        try:
            with mapped(path):
                await self._operator.delete(path, recursive=path.endswith("/"))
        except (OSError, NotImplementedError) as error:
            self.logger.warning("left behind: %s", error)
        self._created.pop(path, None)

    def _path(self, path: str) -> str:
        path = clean(path)
        if self._root is not None:
            check_inside(self._root, path)
        return path
