"""Files in the lab's store: uploaded once by their SHA-256, read by whoever knows it.

A file is cut into chunks that the client stores itself; the store service, part of the broker, says which are there
already, keeps quotas, and writes the manifest when all of them are. See the section Files of the protocol.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO

from jsnats.schemas import (
    BLOB_CHUNK,
    BLOBS,
    BlobRecord,
    BrokerError,
    BrokerUnfit,
    CallError,
    ConfigurationError,
    ProtocolError,
    check_digest,
    chunks_of,
    decode_json,
    encode_json,
    error_from_wire,
    headers as h,
    manifest_subject,
    store_subject,
    unescape_user,
)

from ._behind import Behind
from ._blob_source import Anything, Source, open_source
from ._buckets import last_record
from ._bulk import Bulk
from ._chunks import GROUP, read_blob, send_chunks
from ._connection import Connection, NoResponders

Progress = Callable[[int, int], None]
"""Told the bytes that are done and the bytes in all; called from the event loop."""

ASK_S = 30.0
CHECK_S = 600.0
"""How long the store may take to read a large file through."""
IN_USE_S = 600.0
"""How often a long transfer tells the store that the file is in use."""
ATTEMPTS = 3
_SCHEME = "blob:"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobInfo:
    """A file in the store. `owner` is who uploaded it, `created` and `used` Unix time in seconds; `sent` how many bytes
    this upload had to send, 0 when all of it was there."""

    sha256: str
    size: int
    name: str = ""
    owner: str = ""
    created: float = 0.0
    used: float = 0.0
    sent: int = 0

    @property
    def handle(self) -> str:
        """What stands for the file in the arguments of a call."""
        return _SCHEME + self.sha256


class Blobs:
    """The store as one principal sees it. Chunks travel over `bulk`, by default over the connection itself.

    Wherever a `sha256` is taken, a handle `blob:<sha256>` is too. Beside what is named, everything raises AccessDenied,
    BrokerUnreachable, and BrokerUnfit where the broker runs no store.
    """

    def __init__(self, connection: Connection, bulk: Bulk | None = None) -> None:
        self._connection = connection
        self._bulk = bulk

    async def put(self, source: Anything, *, name: str = "", on_progress: Progress | None = None) -> BlobInfo:
        """Upload a path, bytes, a binary file from where it stands, or pieces as they come; only what the store lacks
        is sent. It goes on after an outage of the broker, and where an upload that was interrupted had stopped.

        Raises StorageFull when there is no room or the quota is used up, OSError, and ConfigurationError for a
        directory or a file that changes meanwhile.
        """
        opened = await open_source(source)
        try:
            sha256 = await _hash(opened)
            return await self._upload(opened, sha256, name or os.path.basename(opened.name), on_progress)
        finally:
            opened.close()

    async def _upload(self, source: Source, sha256: str, name: str, on_progress: Progress | None) -> BlobInfo:
        request = {"sha256": sha256, "size": source.size, "name": name}
        answer = await self._ask("put", request)
        transfer = _Transfer(source.size, on_progress)
        for _ in range(ATTEMPTS):
            if answer["state"] == "have":
                break
            await self._send(source, sha256, missing_chunks(answer, source.size), transfer)
            answer = await self._ask("commit", request)
        if answer["state"] != "have":
            raise BrokerUnfit(f"the store loses what it is sent of {name or sha256[:12]}: is the broker's disk full?")
        transfer.finish()
        return _info(answer.get("blob"), sent=transfer.moved)

    async def _send(self, source: Source, sha256: str, missing: list[int], transfer: _Transfer) -> None:
        transfer.begin(source.size - len(missing) * BLOB_CHUNK)
        try:
            async with self._in_use(sha256):
                await send_chunks(await self._wide(), sha256, source, missing, transfer.move)
            await asyncio.to_thread(source.check)
        except ConfigurationError:
            with suppress(CallError, BrokerError):
                await self._ask("rm", {"sha256": sha256})  # chunks of two versions under one hash
            raise

    async def info(self, sha256: str) -> BlobRecord | None:
        """The manifest of a file, None if the store does not have it."""
        record = await last_record(self._connection, BLOBS.name, manifest_subject(digest_of(sha256)))
        return BlobRecord.decode(record.body) if record and record.body else None

    async def chunks(self, sha256: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file in order; they are right only when the iteration ends without an error.

        It goes on after an outage of the broker. Raises BlobNotFound, BlobCorrupt.
        """
        async with aclosing(self._read(await self._find(sha256))) as pieces:
            async for data in pieces:
                yield data

    async def _find(self, sha256: str) -> BlobRecord:
        found = await self.info(sha256)  # by direct get, which needs no service; a replica may be late
        return found or BlobRecord.from_map((await self._ask("use", {"sha256": digest_of(sha256)})).get("blob"))

    async def _read(self, blob: BlobRecord) -> AsyncGenerator[bytes, None]:
        async with self._in_use(blob.sha256), aclosing(read_blob(await self._wide(), blob)) as pieces:
            async for data in pieces:
                yield data

    async def get(
        self, sha256: str, target: str | os.PathLike[str] | BinaryIO, on_progress: Progress | None = None
    ) -> BlobInfo:
        """Download into a file; a path is written whole or not at all. Raises BlobNotFound, BlobCorrupt, OSError."""
        blob = await self._find(sha256)
        transfer = _Transfer(blob.size, on_progress)
        if isinstance(target, (str, os.PathLike)):
            await self._save(blob, Path(target), transfer)
        else:
            await self._write(blob, target, transfer)
        transfer.finish()
        return _info(asdict(blob))

    async def _save(self, blob: BlobRecord, path: Path, transfer: _Transfer) -> None:
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

    async def _write(self, blob: BlobRecord, file: BinaryIO, transfer: _Transfer) -> None:
        pieces: list[bytes] = []
        async with Behind() as writing, aclosing(self._read(blob)) as arriving:
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
            answer = await self._ask("ls", {"offset": len(found)})
            page = [_info(each) for each in answer.get("blobs", ())]
            found += page
            if not page or len(found) >= answer.get("total", 0):
                return found

    async def rm(self, sha256: str) -> None:
        """Remove a file of one's own, or what an interrupted upload left. Raises BlobNotFound."""
        await self._ask("rm", {"sha256": digest_of(sha256)})

    async def report_bad(self, sha256: str) -> str:
        """Let the store read a file through. Returns who had uploaded it if it was wrong and is dropped now, "" if it
        is right. Raises BlobNotFound."""
        answer = await self._ask("bad", {"sha256": digest_of(sha256)}, timeout_s=CHECK_S)
        return str(answer.get("owner") or "somebody") if answer["state"] == "dropped" else ""

    # ------------------------------------------------------------------ the store

    async def _wide(self) -> Connection:
        return await self._bulk.connection() if self._bulk else self._connection

    async def _ask(self, verb: str, fields: dict[str, Any], timeout_s: float = ASK_S) -> dict[str, Any]:
        """A request to the store; each may be repeated. Raises CallError as well."""
        connection = self._connection
        subject = store_subject(connection.token, verb)
        try:
            message = await connection.read(subject, encode_json(fields), timeout_s=timeout_s)
        except NoResponders:
            raise BrokerUnfit(
                f"the broker at {connection.context.url} runs no store for files: start it with `jsnats broker run`"
            ) from None
        answer = decode_json(message.data)
        code = (message.headers or {}).get(h.ERROR_CODE)
        if code:
            raise error_from_wire(int(code) if code.isdigit() else 0, answer)
        if not isinstance(answer, dict):
            raise ProtocolError(f"the store's answer to {verb} is no map")
        return {"state": "", **answer}

    @asynccontextmanager
    async def _in_use(self, sha256: str) -> AsyncIterator[None]:
        """Tell the store that the file is in use, so that it is not what makes room for others."""
        telling = asyncio.create_task(self._tell_use(sha256), name=f"in use: {sha256[:12]}")
        try:
            yield
        finally:
            telling.cancel()

    async def _tell_use(self, sha256: str) -> None:
        subject, body = store_subject(self._connection.token, "use"), encode_json({"sha256": sha256})
        while True:
            with suppress(BrokerError):
                await self._connection.publish(subject, body, reply=self._connection.replies.inbox())
            await asyncio.sleep(IN_USE_S)


class _Transfer:
    """Counts what was moved, and tells."""

    def __init__(self, size: int, tell: Progress | None) -> None:
        self.moved = 0
        self._size = size
        self._done = 0
        self._tell = tell or (lambda done, total: None)

    def begin(self, done: int) -> None:
        """So much need not be moved."""
        self._done = max(0, done)
        self._tell(self._done, self._size)

    def move(self, count: int) -> None:
        """So much more was moved."""
        self.moved += count
        self._done += count
        self._tell(self._done, self._size)

    def finish(self) -> None:
        """Everything is done."""
        self._tell(self._size, self._size)


def digest_of(sha256: str) -> str:
    """The digest in a digest or a handle. Raises InvalidArgument."""
    return check_digest(sha256.removeprefix(_SCHEME).partition("?")[0])


def missing_chunks(answer: dict[str, Any], size: int) -> list[int]:
    """The chunks that the store wants, by its answer: `have` lists ranges [first, end) of those it has."""
    missing: list[int] = []
    begin = 0
    try:
        for first, end in answer.get("have", ()):
            missing += range(begin, int(first))
            begin = int(end)
    except (TypeError, ValueError) as error:
        raise ProtocolError("the store's answer lists no ranges of chunks") from error
    return [*missing, *range(begin, chunks_of(size))]


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


def _info(data: Any, sent: int = 0) -> BlobInfo:
    blob = BlobRecord.from_map(data)
    return BlobInfo(
        sha256=blob.sha256,
        size=blob.size,
        name=blob.name,
        owner=unescape_user(blob.owner),
        created=blob.created,
        used=float(data.get("used", 0.0)),
        sent=sent,
    )


async def _hash(source: Source) -> str:
    stop = Event()
    try:
        return await asyncio.to_thread(source.hash, stop)
    finally:
        stop.set()
