"""Files as arguments of calls: uploaded to the lab's store first, and passed as a handle.

A file that is in the store already is not sent again. When the exporter finds that the store's copy is wrong, the store
is told, the file is uploaded again and the call is made again, once.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from jsnats.schemas import (
    RESOURCE_FORMAT,
    BlobCorrupt,
    InvalidArgument,
    MethodRecord,
    NodeRecord,
    blob_handle,
    is_handle,
    parse_handle,
)

if TYPE_CHECKING:
    from jsnats.sdk import Blobs, Options

    from ._channel import Channel

T = TypeVar("T")
Source = Any
"""What can be uploaded: a path (str or PathLike), bytes, a binary file, an async iterator of bytes."""
Told = Callable[[int, int], None]
Bar = Callable[[str], AbstractContextManager[Told | None]]
"""Makes, for a file's name, what is told the bytes done and in all while the block lasts; None for nothing."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An argument of `call_with_uploads`: `source` is uploaded, and the method gets its handle.

    A text that is a handle already (`blob:...`, `http://...`) is passed on as it is.
    """

    source: Source
    name: str = ""


class ResourceMethods:
    """What every client can do with files."""

    _channel: Channel
    _node: NodeRecord
    _options: Options

    def upload(self, source: Source, name: str = "") -> str:
        """Upload a path, bytes or a binary file, and return its handle, to be passed to methods.

        What the store has already is not sent again. Raises StorageFull, OSError.
        """
        handle: str = self._channel.run(self.upload_async(source, name))
        return handle

    async def upload_async(self, source: Source, name: str = "") -> str:
        """As `upload`, for asyncio; an async iterator of bytes can be uploaded as well."""
        return await _upload(self._channel.lab.blobs, Upload(source, name), bar_of(self._options))

    def download(self, handle: str, target: str | os.PathLike[str] | BinaryIO) -> None:
        """Save the file of a handle that a method returned. A path is written whole or not at all.

        Raises BlobNotFound, BlobCorrupt, OSError.
        """
        self._channel.run(self.download_async(handle, target))

    async def download_async(self, handle: str, target: str | os.PathLike[str] | BinaryIO) -> None:
        """As `download`, for asyncio."""
        parsed = parse_handle(handle)
        if not parsed.sha256:
            raise InvalidArgument(f"{handle} is not in the lab's store: fetch it with any http client")
        with bar_of(self._options, "downloading")(parsed.name) as tell:
            await self._channel.lab.blobs.get(parsed.sha256, target, tell)

    def call_with_uploads(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As `call`; each argument that is an `Upload` is uploaded first.

        `self.call_with_uploads("flash", Upload(path), target)`. When the store's copy is found to be damaged, it is
        uploaded and the method called once more.
        """
        return self._channel.run(self.call_with_uploads_async(method, *args, **kwargs))

    async def call_with_uploads_async(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As `call_with_uploads`, for asyncio."""

        async def call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
            return await self._channel.call(self._node, method, args, kwargs, self._options)

        return await with_uploads(self._channel.lab.blobs, args, kwargs, call, bar_of(self._options))


async def with_uploads(
    blobs: Blobs,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    call: Callable[[Sequence[Any], Mapping[str, Any]], Awaitable[T]],
    bar: Bar,
) -> T:
    """Call `call` with handles in place of each `Upload`; once more if the store's copy was damaged."""
    first = await uploaded(blobs, args, kwargs, bar)
    try:
        return await call(*first)
    except BlobCorrupt as error:
        damaged = error.detail.get("sha256") if isinstance(error.detail, dict) else None
        if not _is_among(damaged, (*first[0], *first[1].values())):
            raise
        await blobs.report_bad(str(damaged))
        again = await uploaded(blobs, args, kwargs, bar)
        if again != first:  # a stream that could be read only once
            raise
    return await call(*again)


def _is_among(sha256: Any, values: Iterable[Any]) -> bool:
    handles = (each for each in values if isinstance(each, str))
    return isinstance(sha256, str) and any(each.startswith(blob_handle(sha256)) for each in handles)


async def uploaded(
    blobs: Blobs, args: Sequence[Any], kwargs: Mapping[str, Any], bar: Bar
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments, with handles in place of each `Upload`."""
    return (
        [await _handle(blobs, each, bar) for each in args],
        {name: await _handle(blobs, each, bar) for name, each in kwargs.items()},
    )


async def _handle(blobs: Blobs, value: Any, bar: Bar) -> Any:
    return await _upload(blobs, value, bar) if isinstance(value, Upload) else value


async def _upload(blobs: Blobs, upload: Upload, bar: Bar) -> str:
    source = upload.source
    if isinstance(source, str) and is_handle(source):
        parse_handle(source)
        return source
    name = upload.name or _name_of(source)
    with bar(name) as tell:
        info = await blobs.put(source, name=name, on_progress=tell)
    return blob_handle(info.sha256, name)


def _name_of(source: Source) -> str:
    named = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", "")
    name = Path(named).name if isinstance(named, (str, os.PathLike)) else ""
    return "" if name.startswith("<") else name  # <stdin>


def bar_of(options: Options, what: str = "uploading") -> Bar:
    """What tells a client's `on_progress` how far a transfer is."""

    @contextmanager
    def bar(name: str) -> Iterator[Told | None]:
        told, message = options.on_progress, f"{what} {name}".rstrip()
        yield told and (lambda done, total: told({"done": done, "total": total, "message": message}))

    return bar


# ---------------------------------------------------------------------- by the published schema


def is_resource(schema: Mapping[str, Any]) -> bool:
    """Say whether an argument of this schema is the handle of a file."""
    choices = (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ()))
    return any(each.get("format") == RESOURCE_FORMAT for each in choices)


def marked(
    method: MethodRecord, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any], bool]:
    """The arguments with an `Upload` around each that the schema says is a file, and whether there is any."""
    properties = method.params.get("properties", {})
    files = {name for name, schema in properties.items() if is_resource(schema)}
    if not files:
        return list(args), dict(kwargs), False
    names = [*properties, *[""] * len(args)]
    return (
        [_marked(value, name in files) for name, value in zip(names, args, strict=False)],
        {name: _marked(value, name in files) for name, value in kwargs.items()},
        True,
    )


def _marked(value: Any, is_file: bool) -> Any:
    return Upload(value) if is_file and value is not None and not isinstance(value, Upload) else value
