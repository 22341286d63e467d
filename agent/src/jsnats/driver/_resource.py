"""Files as arguments of a driver's methods.

A driver gets a handle, and opens it with `Driver.resource`. Where the bytes come from is the agent's business, which
puts its `Resources` into each driver; in a unit test, without an agent, a handle is simply the path of a file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Protocol, Self

import anyio
from pydantic import WithJsonSchema

from jsnats.schemas import RESOURCE_FORMAT

from ._decompress import HEAD, SUFFIXES, Decompressor, compression_of, decompress

Resource = Annotated[str, WithJsonSchema({"type": "string", "format": RESOURCE_FORMAT})]
"""A file as an argument or a result: what travels is its handle. Clients upload what they are given for it."""

BLOCK = 1 << 20


class ResourceStream:
    """The bytes of a file, as they come: `async for data in stream`, or `receive()`.

    `name` is what the file is called, "" if nobody said; `size` its bytes, None if that is not known before the end.
    """

    def __init__(self, pieces: AsyncGenerator[bytes, None], *, name: str = "", size: int | None = None) -> None:
        self.name = name
        self.size = size
        self._pieces = pieces

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def receive(self) -> bytes:
        """The next bytes. Raises anyio.EndOfStream behind the last."""
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            raise anyio.EndOfStream from None

    async def aclose(self) -> None:
        """Read no more."""
        await self._pieces.aclose()


class ResourceSink(Protocol):
    """Takes the bytes of a new file. `handle` names it when the block has ended."""

    handle: str

    async def send(self, data: bytes) -> None:
        """Take the next bytes."""


class ResourceFile(Protocol):
    """A file in the file system, for `with` in a thread and for `async with`; it is gone after the block."""

    def __enter__(self) -> Path: ...
    def __exit__(self, *exc: object) -> None: ...
    async def __aenter__(self) -> Path: ...
    async def __aexit__(self, *exc: object) -> None: ...


class Resources(Protocol):
    """What an agent gives to its drivers."""

    def open(self, handle: str) -> AbstractAsyncContextManager[ResourceStream]:
        """The file as it is stored. Raises InvalidArgument, BlobNotFound, BlobIncomplete, BlobCorrupt, OSError."""

    def create(self, name: str) -> AbstractAsyncContextManager[ResourceSink]:
        """A new file. Raises StorageFull, OSError."""

    def file(self, handle: str, *, decompress: bool) -> ResourceFile:
        """The file in the file system."""


@asynccontextmanager
async def opened(resources: Resources, handle: str, *, decompress: bool) -> AsyncIterator[ResourceStream]:
    """Open a file, decompressed if it is compressed and that is wanted."""
    async with resources.open(handle) as stored:
        if not decompress:
            yield stored
            return
        async with aclosing(await plain(stored)) as stream:
            yield stream


async def plain(stored: ResourceStream) -> ResourceStream:
    """The stream itself, or what is in it if its first bytes say that it is compressed."""
    head = b""
    while len(head) < HEAD and (data := await anext(stored, b"")):
        head += data
    kind = compression_of(head)
    if kind:
        return ResourceStream(decompress(kind, head, stored), name=stored.name.removesuffix(SUFFIXES[kind]))
    return ResourceStream(_behind(head, stored), name=stored.name, size=stored.size)


async def _behind(head: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    if head:
        yield head
    async for data in rest:
        yield data


# ---------------------------------------------------------------------- without an agent


class LocalResources:
    """For unit tests: a handle is the path of a file; a new file is a temporary one, which the test may remove."""

    @asynccontextmanager
    async def open(self, handle: str) -> AsyncIterator[ResourceStream]:
        """See Resources."""
        with _open(handle) as file:
            yield ResourceStream(_blocks(file), name=Path(handle).name, size=os.fstat(file.fileno()).st_size)

    @asynccontextmanager
    async def create(self, name: str) -> AsyncIterator[ResourceSink]:
        """See Resources."""
        descriptor, path = tempfile.mkstemp(suffix=f"-{Path(name).name}")
        with os.fdopen(descriptor, "wb") as file:
            yield _LocalSink(path, file)

    def file(self, handle: str, *, decompress: bool) -> ResourceFile:
        """See Resources."""
        return _LocalFile(handle, decompress)


def _open(path: str) -> BinaryIO:
    return Path(path).open("rb")


async def _blocks(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    while data := file.read(BLOCK):
        yield data


class _LocalSink:
    def __init__(self, path: str, file: BinaryIO) -> None:
        self.handle = path
        self._file = file

    async def send(self, data: bytes) -> None:
        self._file.write(data)


class _LocalFile:
    def __init__(self, handle: str, decompress: bool) -> None:
        self._source = Path(handle)
        self._decompress = decompress
        self._folder = ""

    def __enter__(self) -> Path:
        with _open(str(self._source)) as file:
            kind = compression_of(file.read(HEAD)) if self._decompress else ""
        if not kind:
            return self._source
        self._folder = tempfile.mkdtemp(prefix="jsnats-")
        target = Path(self._folder) / self._source.name.removesuffix(SUFFIXES[kind])
        _unpack(kind, self._source, target)
        return target

    def __exit__(self, *exc: object) -> None:
        if self._folder:
            shutil.rmtree(self._folder)

    async def __aenter__(self) -> Path:
        return self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__()


def _unpack(kind: str, source: Path, target: Path) -> None:
    decompressor = Decompressor(kind)
    with source.open("rb") as packed, target.open("wb") as file:
        while data := packed.read(BLOCK):
            file.writelines(decompressor.feed(data))
    decompressor.finish()


def resources_of(driver: Any) -> Resources:
    """What the agent gave to a driver; without an agent, files of this machine."""
    given: Resources | None = vars(driver).get("_resources")
    return given or LocalResources()
