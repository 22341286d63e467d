"""What every client can do with files, and which arguments are files by the published schema."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from jsnats.schemas import RESOURCE_FORMAT, InvalidArgument, MethodRecord, NodeRecord, parse_handle

from ._uploads import Bar, Source, Told, Upload, upload_file, with_uploads

if TYPE_CHECKING:
    from jsnats.sdk import Options

    from ._channel import Channel


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
        return await upload_file(self._channel.lab.blobs, Upload(source, name), bar_of(self._options))

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
        """As `call`; each argument that is an `Upload` is uploaded.

        `self.call_with_uploads("flash", Upload(path), target)`. The method begins while the upload goes on. When that
        fails, the call is cancelled and the error of the upload is raised: the device may have a part of the file. With
        the option `timeout_s`, which is for the call alone, the method begins behind the upload. When the store's copy
        is found to be damaged, it is uploaded and the method called once more.
        """
        return self._channel.run(self.call_with_uploads_async(method, *args, **kwargs))

    async def call_with_uploads_async(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As `call_with_uploads`, for asyncio."""

        async def call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
            return await self._channel.call(self._node, method, args, kwargs, self._options)

        blobs, at_once = self._channel.lab.blobs, self._options.timeout_s is None
        return await with_uploads(blobs, args, kwargs, call, bar_of(self._options), at_once=at_once)


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
