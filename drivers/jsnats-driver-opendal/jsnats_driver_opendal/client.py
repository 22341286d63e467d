"""The user's side of a storage: never imports the driver."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from typing import Self

import click

from jsnats.client import DriverClient, Upload

from .commands import storage_commands
from .common import Metadata, PresignedRequest
from .flasher_client import FlasherClient, StorageMuxFlasherClient

__all__ = ["FlasherClient", "OpendalClient", "OpendalFile", "StorageMuxFlasherClient"]

_BLOCK = 512 << 10

# Here, because `list` is a method below.
Paths = list[str]
Pieces = list[bytes]


class OpendalFile:
    """An open file of a storage. Also a context manager; what was written is complete when it is closed."""

    def __init__(self, client: OpendalClient, fd: str) -> None:
        self.client = client
        self.fd = fd

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, or all that is left; fewer only at the end of the file."""
        pieces: Pieces = []
        left = size
        while left and (data := self.client.call("file_read", self.fd, _BLOCK if size < 0 else min(left, _BLOCK))):
            pieces.append(data)
            left -= len(data) if size >= 0 else 0
        return b"".join(pieces)

    def write(self, data: bytes) -> int:
        """Write, and return how many bytes that were."""
        for begin in range(0, len(data), _BLOCK):
            self.client.call("file_write", self.fd, bytes(data[begin : begin + _BLOCK]))
        return len(data)

    def seek(self, pos: int, whence: int = 0) -> int:
        """Go to a position, from the start (0), from here (1) or from the end (2), and return it; for reading only."""
        return int(self.client.call("file_seek", self.fd, pos, whence))

    def tell(self) -> int:
        """Position in a file that is read."""
        return int(self.client.call("file_tell", self.fd))

    def readable(self) -> bool:
        """Say whether it was opened to read."""
        return bool(self.client.call("file_readable", self.fd))

    def seekable(self) -> bool:
        """Say whether its position can be changed."""
        return bool(self.client.call("file_seekable", self.fd))

    def writable(self) -> bool:
        """Say whether it was opened to write."""
        return bool(self.client.call("file_writable", self.fd))

    def close(self) -> None:
        """Close it; nothing happens if it is closed."""
        self.client.call("file_close", self.fd)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return bool(self.client.call("file_closed", self.fd))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class OpendalClient(DriverClient):
    """Client of every storage. Paths are relative to its root; those of directories end in a slash.

    Faults are the builtins that the same would raise here: FileNotFoundError comes as an OSError, NotImplementedError
    is what a storage cannot do, `..` and links that lead out of the root are OSError too.
    """

    def write_bytes(self, path: str, data: bytes) -> None:
        """Write a small file; it travels in calls and not through the lab's store."""
        with self.open(path, "wb") as file:
            file.write(data)

    def read_bytes(self, path: str) -> bytes:
        """Read a small file."""
        with self.open(path, "rb") as file:
            return file.read()

    def write_from_path(self, path: str, src: str | os.PathLike[str]) -> None:
        """Write a file of this machine, or what a handle or an http(s) URL stands for, byte for byte."""
        self.call_with_uploads("write", path, Upload(src))

    def read_into_path(self, path: str, dst: str | os.PathLike[str]) -> None:
        """Save a file on this machine."""
        self.download(self.call("read", path), dst)

    def open(self, path: str, mode: str) -> OpendalFile:
        """Open a file to read (`rb`), to write (`wb`) or to append (`ab`)."""
        return OpendalFile(self, self.call("open", path, mode))

    def stat(self, path: str) -> Metadata:
        """What the storage knows of a file or directory."""
        return Metadata.model_validate(self.call("stat", path))

    def hash(self, path: str, algo: str = "sha256") -> str:
        """Digest of a file in hex, made on the exporter."""
        return str(self.call("hash", path, algo))

    def copy(self, source: str, target: str) -> None:
        """Copy a file."""
        self.call("copy", source, target)

    def rename(self, source: str, target: str) -> None:
        """Rename a file."""
        self.call("rename", source, target)

    def remove_all(self, path: str) -> None:
        """Remove a directory and everything in it."""
        self.call("remove_all", path)

    def create_dir(self, path: str) -> None:
        """Make a directory, and those above it."""
        self.call("create_dir", path)

    def delete(self, path: str) -> None:
        """Remove a file or an empty directory; nothing happens if there is none."""
        self.call("delete", path)

    def exists(self, path: str) -> bool:
        """Say whether there is such a file or directory."""
        return bool(self.call("exists", path))

    def list(self, path: str = "") -> Generator[str, None, None]:
        """Yield the paths in a directory."""
        with closing(self.streamingcall("list", path)) as found:
            yield from found

    def scan(self, path: str = "") -> Generator[str, None, None]:
        """Yield the paths below a directory, at any depth."""
        with closing(self.streamingcall("scan", path)) as found:
            yield from found

    def presign_stat(self, path: str, expire_second: int) -> PresignedRequest:
        """A request for the metadata of a file that anybody may make to the storage for so many seconds."""
        return PresignedRequest.model_validate(self.call("presign_stat", path, expire_second))

    def presign_read(self, path: str, expire_second: int) -> PresignedRequest:
        """A request to read a file that anybody may make to the storage for so many seconds."""
        return PresignedRequest.model_validate(self.call("presign_read", path, expire_second))

    def presign_write(self, path: str, expire_second: int) -> PresignedRequest:
        """A request to write a file that anybody may make to the storage for so many seconds."""
        return PresignedRequest.model_validate(self.call("presign_write", path, expire_second))

    def capability(self) -> dict[str, bool | int | None]:
        """What the storage can do, by OpenDAL's names: `write`, `presign_read`, `write_can_append`, ..."""
        return dict(self.call("capability"))

    def get_created_resources(self) -> Paths:
        """Paths of what was made since the lease began, the oldest first."""
        return Paths(self.call("get_created_resources"))

    def register_path(self, path: str) -> None:
        """Count a file as made in this lease."""
        self.call("register_path", path)

    def cli(self) -> click.Group:
        """Return the commands of `j`: one for each method."""
        return storage_commands(self)
