"""Files in the lab's store: uploaded once by their SHA-256, read by whoever knows it.

A file is cut into chunks that the client stores itself; the store service, part of the broker, says which are there
already, keeps quotas, and writes the manifest when all of them are. See the section Files of the protocol.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jsnats.schemas import BLOBS, BlobNotFound, BlobRecord, check_digest, manifest_subject

from ._behind import Behind
from ._blob_offer import Offer, make_offer
from ._blob_source import Anything, open_source
from ._blob_store import SCHEME, BlobInfo, StoreLink, info_of
from ._buckets import last_record
from ._bulk import Bulk
from ._chunks import GROUP, read_blob
from ._connection import Connection
from ._transfer import Progress, Transfer

CHECK_S = 600.0
"""How long the store may take to read a large file through."""


class FoundBlob(NamedTuple):
    """A file of the store. `coming`: it is still being uploaded, and what the uploader said of it."""

    blob: BlobRecord
    coming: bool = False


class Blobs:
    """The store as one principal sees it. Chunks travel over `bulk`, by default over the connection itself.

    Wherever a `sha256` is taken, a handle `blob:<sha256>` is too. Beside what is named, everything raises AccessDenied,
    BrokerUnreachable, and BrokerUnfit where the broker runs no store.
    """

    def __init__(self, connection: Connection, bulk: Bulk | None = None) -> None:
        self._connection = connection
        self._store = StoreLink(connection, bulk)

    async def put(self, source: Anything, *, name: str = "", on_progress: Progress | None = None) -> BlobInfo:
        """Upload a path, bytes, a binary file from where it stands, or pieces as they come; only what the store lacks
        is sent. It goes on after an outage of the broker, and where an upload that was interrupted had stopped.

        Raises StorageFull when there is no room or the quota is used up, OSError, and ConfigurationError for a
        directory or a file that changes meanwhile.
        """
        async with self.offer(source, name=name, on_progress=on_progress) as offer:
            return await offer.send()

    @asynccontextmanager
    async def offer(
        self, source: Anything, *, name: str = "", on_progress: Progress | None = None
    ) -> AsyncIterator[Offer]:
        """The two halves of `put`: hash the file and have the store make room for it, then `send()` in the block.

        In between, an exporter may be given the handle: it follows the upload. Raises as `put`.
        """
        opened = await open_source(source)
        try:
            yield await make_offer(self._store, opened, name or os.path.basename(opened.name), on_progress)
        finally:
            opened.close()

    async def info(self, sha256: str) -> BlobRecord | None:
        """The manifest of a file, None if the store does not have it."""
        record = await last_record(self._connection, BLOBS.name, manifest_subject(digest_of(sha256)))
        return BlobRecord.decode(record.body) if record and record.body else None

    async def chunks(self, sha256: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file in order; they are right only when the iteration ends without an error.

        It goes on after an outage of the broker. Raises BlobNotFound, BlobCorrupt.
        """
        async with aclosing(self.read(FoundBlob(await self._whole(sha256)))) as pieces:
            async for data in pieces:
                yield data

    async def look_up(self, sha256: str) -> FoundBlob:
        """What the store knows of a file that is there, or is being uploaded. Raises BlobNotFound."""
        stored = await self.info(sha256)  # by direct get, which needs no service; a replica may be late
        if stored:
            return FoundBlob(stored)
        answer = await self._store.ask("use", {"sha256": digest_of(sha256)})
        return FoundBlob(BlobRecord.from_map(answer.get("blob")), coming=answer["state"] == "coming")

    async def _whole(self, sha256: str) -> BlobRecord:
        found = await self.look_up(sha256)
        if found.coming:
            raise BlobNotFound(f"{found.blob.sha256[:12]} {found.blob.name!r} is still being uploaded")
        return found.blob

    async def read(self, found: FoundBlob) -> AsyncGenerator[bytes, None]:
        """As `chunks`, of a file that was looked up; one that is coming is read while it is uploaded.

        Raises BlobIncomplete when that stops.
        """
        blob, coming = found
        async with (
            self._store.in_use(blob.sha256),
            aclosing(read_blob(await self._store.wide(), blob, coming=coming)) as pieces,
        ):
            async for data in pieces:
                yield data

    async def get(
        self, sha256: str, target: str | os.PathLike[str] | BinaryIO, on_progress: Progress | None = None
    ) -> BlobInfo:
        """Download into a file; a path is written whole or not at all. Raises BlobNotFound, BlobCorrupt, OSError."""
        blob = await self._whole(sha256)
        transfer = Transfer(blob.size, on_progress)
        if isinstance(target, (str, os.PathLike)):
            await self._save(blob, Path(target), transfer)
        else:
            await self._write(blob, target, transfer)
        transfer.finish()
        return info_of(asdict(blob))

    async def _save(self, blob: BlobRecord, path: Path, transfer: Transfer) -> None:
        written, file = await asyncio.to_thread(_open_target, path)
        try:
            with file:
                await self._write(blob, file, transfer)
            if written != path:
                os.replace(written, path)
        except BaseException:
            if written != path:
                os.unlink(written)
            raise

    async def _write(self, blob: BlobRecord, file: BinaryIO, transfer: Transfer) -> None:
        pieces: list[bytes] = []
        async with Behind() as writing, aclosing(self.read(FoundBlob(blob))) as arriving:
            async for data in arriving:
                pieces.append(data)
                if len(pieces) == GROUP:
                    await writing.run(file.writelines, pieces)
                    pieces = []
                transfer.move(len(data))
            await writing.run(file.writelines, pieces)

    async def ls(self) -> list[BlobInfo]:
        """The files one has uploaded, the last used first; an admin sees those of everybody."""
        found: list[BlobInfo] = []
        while True:
            answer = await self._store.ask("ls", {"offset": len(found)})
            page = [info_of(each) for each in answer.get("blobs", ())]
            found += page
            if not page or len(found) >= answer.get("total", 0):
                return found

    async def rm(self, sha256: str) -> None:
        """Remove a file of one's own, or what an interrupted upload left. Raises BlobNotFound."""
        await self._store.ask("rm", {"sha256": digest_of(sha256), "request": secrets.token_hex(8)})

    async def report_bad(self, sha256: str) -> str:
        """Let the store read a file through. Returns who had uploaded it if it was wrong and is dropped now, "" if it
        is right. Raises BlobNotFound."""
        answer = await self._store.ask("bad", {"sha256": digest_of(sha256)}, timeout_s=CHECK_S)
        return str(answer.get("owner") or "somebody") if answer["state"] == "dropped" else ""


def digest_of(sha256: str) -> str:
    """The digest in a digest or a handle. Raises InvalidArgument."""
    return check_digest(sha256.removeprefix(SCHEME).partition("?")[0])


def size_text(count: int) -> str:
    """`4.2 GB`, in units of 1000."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def _open_target(path: Path) -> tuple[Path, BinaryIO]:
    """Where to write and the open file: beside a file, which is replaced in the end; a device or pipe itself."""
    if path.exists() and not path.is_file():
        return path, path.open("wb")
    beside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    return beside, beside.open("xb")
