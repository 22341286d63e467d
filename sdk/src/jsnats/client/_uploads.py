"""Files as arguments of calls: uploaded to the lab's store, and passed as a handle.

A file that is in the store already is not sent again. Of another, the store first agrees to take it. Then the call can
be made at once: the exporter follows the upload, and an image is on the device when little more than the upload's time
is over. An exporter or a store that cannot do that yet finds no such file; then the call is made again behind the
upload. When the exporter finds that the store's copy is wrong, the store is told, the file is uploaded again and the
call is made again, once.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jsnats.schemas import BlobCorrupt, BlobIncomplete, BlobNotFound, CallError, blob_handle, is_handle, parse_handle

if TYPE_CHECKING:
    from jsnats.sdk import Blobs, Offer

T = TypeVar("T")
Source = Any
"""What can be uploaded: a path (str or PathLike), bytes, a binary file, an async iterator of bytes."""
Told = Callable[[int, int], None]
Bar = Callable[[str], AbstractContextManager[Told | None]]
"""Makes, for a file's name, what is told the bytes done and in all while the block lasts; None for nothing."""
Call = Callable[[Sequence[Any], Mapping[str, Any]], Coroutine[Any, Any, T]]


@dataclass(frozen=True, slots=True)
class Upload:
    """An argument of `call_with_uploads`: `source` is uploaded, and the method gets its handle.

    A text that is a handle already (`blob:...`, `http://...`) is passed on as it is.
    """

    source: Source
    name: str = ""


async def with_uploads(
    blobs: Blobs, args: Sequence[Any], kwargs: Mapping[str, Any], call: Call[T], bar: Bar, *, at_once: bool = False
) -> T:
    """Call `call` with handles in place of each `Upload`, behind the uploads or `at_once`; once more if the store's
    copy was damaged, or not there for the exporter to follow."""
    async with AsyncExitStack() as stack:
        files = _Files(blobs, bar, stack)
        first = await files.handles(args, kwargs)
        try:
            if at_once and files.unsent:
                return await _beside(files.send(), call(*first))
            await files.send()
            return await call(*first)
        except (BlobCorrupt, BlobIncomplete, BlobNotFound) as error:
            if not files.is_about(error) or not (files.unsent or isinstance(error, BlobCorrupt)):
                raise
            await files.send()
            if isinstance(error, BlobCorrupt):
                with suppress(BlobNotFound):  # somebody else was faster, or we, with a request whose answer was lost
                    await blobs.report_bad(error.detail["sha256"])
                if await uploaded(blobs, args, kwargs, bar) != first:  # a stream that could be read only once
                    raise
        return await call(*first)


class _Files:
    """The files among the arguments of a call: open and offered until `stack` closes."""

    def __init__(self, blobs: Blobs, bar: Bar, stack: AsyncExitStack) -> None:
        self.unsent = False  # of some of them, the store lacked something when the call was to be made
        self._offers: list[Offer] = []
        self._blobs = blobs
        self._bar = bar
        self._stack = stack
        self._handles: list[str] = []

    async def handles(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments, with a handle in place of each `Upload`."""
        return (
            [await self._handle(each) for each in args],
            {name: await self._handle(each) for name, each in kwargs.items()},
        )

    async def _handle(self, value: Any) -> Any:
        if not isinstance(value, Upload):
            return value
        handle, offer = await self._stack.enter_async_context(_offered(self._blobs, value, self._bar))
        self._handles.append(handle)
        if offer:
            self._offers.append(offer)
            self.unsent = self.unsent or not offer.whole
        return handle

    async def send(self) -> None:
        """Upload what the store lacks; as often as it is asked."""
        for each in self._offers:
            await each.send()

    def is_about(self, error: CallError) -> bool:
        """Whether an error names one of the files."""
        sha256 = error.detail.get("sha256") if isinstance(error.detail, dict) else None
        return isinstance(sha256, str) and any(each.startswith(blob_handle(sha256)) for each in self._handles)


async def _beside(upload: Coroutine[Any, Any, None], call: Coroutine[Any, Any, T]) -> T:
    """The result of the call, when the upload has ended too. Whichever fails ends the other."""
    import asyncio  # not for every command

    tasks = sending, calling = asyncio.ensure_future(upload), asyncio.ensure_future(call)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if sending.done():
            sending.result()
        return await calling
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.wait(tasks)


async def uploaded(
    blobs: Blobs, args: Sequence[Any], kwargs: Mapping[str, Any], bar: Bar
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments, with the handle of an uploaded file in place of each `Upload`."""
    async with AsyncExitStack() as stack:
        files = _Files(blobs, bar, stack)
        found = await files.handles(args, kwargs)
        await files.send()
        return found


async def upload_file(blobs: Blobs, upload: Upload, bar: Bar) -> str:
    """The handle of a file that is uploaded now."""
    (handle,), _ = await uploaded(blobs, [upload], {}, bar)
    return str(handle)


@asynccontextmanager
async def _offered(blobs: Blobs, upload: Upload, bar: Bar) -> AsyncIterator[tuple[str, Offer | None]]:
    """A file's handle, and what sends it."""
    source = upload.source
    if isinstance(source, str) and is_handle(source):
        parse_handle(source)
        yield source, None
        return
    name = upload.name or _name_of(source)
    with bar(name) as tell:
        async with blobs.offer(source, name=name, on_progress=tell) as offer:
            yield blob_handle(offer.sha256, name), offer


def _name_of(source: Source) -> str:
    named = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", "")
    name = Path(named).name if isinstance(named, (str, os.PathLike)) else ""
    return "" if name.startswith("<") else name  # <stdin>
