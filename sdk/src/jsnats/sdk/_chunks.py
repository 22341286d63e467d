"""The chunks of a file on their way to the broker and back: pipelined, resumed after an outage, a window in memory."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any

from jsnats.schemas import (
    BLOB_CHUNK,
    BLOBS,
    STORE_FULL,
    BlobCorrupt,
    BlobNotFound,
    BlobRecord,
    BrokerUnfit,
    StorageFull,
    chunk_subject,
    headers as h,
    manifest_subject,
)

from ._behind import Behind
from ._blob_source import Source
from ._buckets import last_record
from ._connection import RECONNECT_WAIT_S, ApiError, Connection, is_no_responders
from ._nats import Msg
from ._numbered import Numbered

WINDOW = 16
GROUP = 4
"""Chunks that are read, hashed or written by one hop to a thread, which costs as much as hashing one."""
MISSING_TRIES = 4

_THERE = 10071
_PER_SUBJECT = "maximum messages per subject exceeded"
_ABSENT = {h.EXPECTED_SUBJECT_SEQ: "0"}


async def send_chunks(
    connection: Connection, sha256: str, source: Source, missing: Iterable[int], sent: Callable[[int], None]
) -> None:
    """Store the chunks `missing` of `source`; tell `sent` the size of each when it is stored.

    One that somebody else stored meanwhile is left as it is. Raises StorageFull, AccessDenied, BrokerUnreachable,
    BrokerUnfit, ApiError, and what the source raises.
    """
    buffer = memoryview(bytearray(GROUP * BLOB_CHUNK))
    async with Numbered(connection, missing, WINDOW) as requests:
        while requests.open:
            if requests.due and requests.room >= GROUP:
                await _send_group(requests, sha256, source, buffer)
            elif reply := await requests.take():
                number, answer = reply
                if is_no_responders(answer):
                    _not_ready(connection, requests, number)
                else:
                    _check_stored(answer)
                    sent(min(BLOB_CHUNK, source.size - number * BLOB_CHUNK))


async def _send_group(requests: Numbered, sha256: str, source: Source, buffer: memoryview) -> None:
    first = requests.due.popleft()
    count = 1
    while count < GROUP and requests.due and requests.due[0] == first + count:
        requests.due.popleft()
        count += 1
    data = buffer[: min(count * BLOB_CHUNK, source.size - first * BLOB_CHUNK)]
    await asyncio.to_thread(source.readinto, first * BLOB_CHUNK, data)
    for number in range(first, first + count):
        begin = (number - first) * BLOB_CHUNK
        await requests.send(number, chunk_subject(sha256, number), data[begin : begin + BLOB_CHUNK], _ABSENT)


def _check_stored(answer: Msg) -> None:
    if b'"error"' not in answer.data:
        return
    error = ApiError(json.loads(answer.data)["error"])
    if error.code == _THERE or _PER_SUBJECT in str(error):
        return
    if error.code in STORE_FULL:
        raise StorageFull(f"the broker has no room for the file ({error}): remove some with `jsnats blob rm`")
    raise error


def _not_ready(connection: Connection, requests: Numbered, number: int) -> None:
    """Nobody took the request: the stream is not back yet after a restart, or it was never there."""
    if not connection.just_back:
        raise BrokerUnfit(f"the broker at {connection.context.url} stores no files: start it with `jsnats broker run`")
    requests.later(number)


async def read_blob(connection: Connection, blob: BlobRecord) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of a file, in order. The file is whole and right only when the iteration ends without an error.

    Raises BlobCorrupt when it is not what its SHA-256 says, BlobNotFound when it was removed, AccessDenied,
    BrokerUnreachable, BrokerUnfit.
    """
    digest, unhashed = hashlib.sha256(), list[bytes]()
    async with Behind() as hashing, aclosing(_chunks(connection, blob)) as arriving:
        async for data in arriving:
            unhashed.append(data)
            if len(unhashed) == GROUP:
                await hashing.run(_update, digest, unhashed)
                unhashed = []
            yield data
        await hashing.run(_update, digest, unhashed)
    if digest.hexdigest() != blob.sha256:
        raise BlobCorrupt(
            f"what the store has of {blob.sha256[:12]} {blob.name!r} is something else: upload it again",
            detail={"sha256": blob.sha256},
        )


def _update(digest: Any, pieces: list[bytes]) -> None:
    for piece in pieces:
        digest.update(piece)


async def _chunks(connection: Connection, blob: BlobRecord) -> AsyncGenerator[bytes, None]:
    held: dict[int, Msg] = {}
    wanted = tries = 0
    async with Numbered(connection, range(blob.chunks), WINDOW) as requests:
        while wanted < blob.chunks:
            while requests.due and requests.room > len(held):
                number = requests.due.popleft()
                await requests.send(number, f"$JS.API.DIRECT.GET.{BLOBS.name}.{chunk_subject(blob.sha256, number)}")
            if reply := await requests.take():
                if is_no_responders(reply[1]):
                    _not_ready(connection, requests, reply[0])
                else:
                    held[reply[0]] = reply[1]
            while wanted in held:
                message = held.pop(wanted)
                if (message.headers or {}).get(h.STATUS):
                    tries += 1
                    await _missing(connection, blob, wanted, tries)
                    requests.due.appendleft(wanted)
                    break
                yield _whole(blob, wanted, message)
                wanted, tries = wanted + 1, 0


def _whole(blob: BlobRecord, number: int, message: Msg) -> bytes:
    size = min(blob.chunk, blob.size - number * blob.chunk)
    if len(message.data) != size:
        raise BlobCorrupt(
            f"chunk {number} of {blob.sha256[:12]} {blob.name!r} has {len(message.data)} bytes for {size}",
            detail={"sha256": blob.sha256},
        )
    return message.data


async def _missing(connection: Connection, blob: BlobRecord, number: int, tries: int) -> None:
    """A replica may be late, so a chunk that is not there is asked for again before it counts as lost."""
    if tries < MISSING_TRIES:
        await asyncio.sleep(RECONNECT_WAIT_S)
        return
    if await last_record(connection, BLOBS.name, manifest_subject(blob.sha256)) is None:
        raise BlobNotFound(f"{blob.sha256[:12]} {blob.name!r} was removed while it was read")
    raise BlobCorrupt(
        f"chunk {number} of {blob.sha256[:12]} {blob.name!r} is lost: upload it again", detail={"sha256": blob.sha256}
    )
