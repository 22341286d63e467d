"""The store for sync code: as `Blobs`, without `await`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from jsnats.schemas import BlobRecord

from ._blob_source import Anything
from ._blob_store import BlobInfo
from ._blobs import Blobs
from ._bridge import Bridge
from ._transfer import Progress


class BlockingBlobs:
    """The store of a `Lab`. Progress is told from the thread of the event loop."""

    def __init__(self, inner: Blobs, bridge: Bridge) -> None:
        self._inner = inner
        self._bridge = bridge

    def put(self, source: Anything, *, name: str = "", on_progress: Progress | None = None) -> BlobInfo:
        """Upload a path, bytes or a binary file; only what the store lacks is sent. See `Blobs.put`."""
        return self._bridge.run(self._inner.put(source, name=name, on_progress=on_progress))

    def get(
        self, sha256: str, target: str | os.PathLike[str] | BinaryIO, on_progress: Progress | None = None
    ) -> BlobInfo:
        """Download into a file; a path is written whole or not at all. Raises BlobNotFound, BlobCorrupt, OSError."""
        return self._bridge.run(self._inner.get(sha256, target, on_progress))

    def chunks(self, sha256: str) -> Iterator[bytes]:
        """Yield the bytes of a file in order; they are right only when the iteration ends without an error."""
        pieces = self._inner.chunks(sha256)

        async def following() -> bytes | None:
            return await anext(pieces, None)

        try:
            while (data := self._bridge.run(following())) is not None:
                yield data
        finally:
            if self._bridge.alive:
                self._bridge.run(pieces.aclose())

    def info(self, sha256: str) -> BlobRecord | None:
        """The manifest of a file, None if the store does not have it."""
        return self._bridge.run(self._inner.info(sha256))

    def ls(self) -> list[BlobInfo]:
        """The files one has uploaded, the last used first; an admin sees those of everybody."""
        return self._bridge.run(self._inner.ls())

    def rm(self, sha256: str) -> None:
        """Remove a file of one's own, or what an interrupted upload left. Raises BlobNotFound."""
        self._bridge.run(self._inner.rm(sha256))

    def report_bad(self, sha256: str) -> str:
        """Let the store read a file through. Returns who had uploaded it if it was wrong, else ""."""
        return self._bridge.run(self._inner.report_bad(sha256))
