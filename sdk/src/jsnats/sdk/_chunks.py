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
    BlobIncomplete,
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
from ._broker_errors import ApiError, is_no_responders
from ._buckets import last_record
from ._cluster import ELECTION_S
from ._connection import Connection
from ._lasting import RECONNECT_WAIT_S
from ._nats import Msg
from ._numbered import Numbered

WINDOW = 16
GROUP = 4
"""Chunks that are read, hashed or written by one hop to a thread, which costs as much as hashing one."""
MISSING_TRIES = 4
BEHIND_TRIES = 100
"""The same in a cluster, where a server that was away answers again while it catches up with what was uploaded."""

FOLLOW_S = 60.0
"""How long a reader who follows an upload waits for its next chunk: an uploader waits that long for the broker."""
FOLLOW_WAIT_S = (0.02, 0.5)
"""Between two looks for the next chunk, at first and at most."""

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
                if is_no_responders(answer) or _is_passing(answer):
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


def _is_passing(answer: Msg) -> bool:
    return b'"error"' in answer.data and ApiError(json.loads(answer.data)["error"]).is_passing


def _check_stored(answer: Msg) -> None:
    if b'"error"' not in answer.data:
        return
    error = ApiError(json.loads(answer.data)["error"])
    if error.is_conflict or _PER_SUBJECT in str(error):
        return
    if error.code in STORE_FULL:
        raise StorageFull(f"the broker has no room for the file ({error}): remove some with `jsnats blob rm`")
    raise error


def _not_ready(connection: Connection, requests: Numbered, number: int) -> None:
    """Nobody took the request: the stream is not back yet after a restart, has no leader, or it was never there."""
    if not connection.just_back and not (connection.clustered and requests.waits_s() < ELECTION_S):
        raise BrokerUnfit(f"the broker at {connection.context.url} stores no files: start it with `jsnats broker run`")
    requests.later(number)


async def read_blob(connection: Connection, blob: BlobRecord, *, coming: bool = False) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of a file, in order. The file is whole and right only when the iteration ends without an error.

    One that is `coming` is read while it is uploaded. Raises BlobCorrupt when it is not what its SHA-256 says,
    BlobNotFound when it was removed, BlobIncomplete when its upload stopped, AccessDenied, BrokerUnreachable,
    BrokerUnfit.
    """
    digest, unhashed = hashlib.sha256(), list[bytes]()
    patience = _Following(connection, blob) if coming else _Patience(connection, blob)
    async with Behind() as hashing, aclosing(_chunks(connection, blob, patience)) as arriving:
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


async def _chunks(connection: Connection, blob: BlobRecord, patience: _Patience) -> AsyncGenerator[bytes, None]:
    held: dict[int, Msg] = {}
    wanted = 0
    async with Numbered(connection, range(blob.chunks), WINDOW) as requests:
        while wanted < blob.chunks:
            while requests.due and requests.room > max(len(held), WINDOW - patience.ahead):
                number = requests.due.popleft()
                await requests.send(number, f"$JS.API.DIRECT.GET.{BLOBS.name}.{chunk_subject(blob.sha256, number)}")
            if reply := await requests.take():
                if is_no_responders(reply[1]):
                    _not_ready(connection, requests, reply[0])
                else:
                    held[reply[0]] = reply[1]
            while wanted in held:
                if _is_missing(held[wanted]):
                    requests.due.extendleft(reversed(_take_missing(held)))
                    await patience.missed(wanted)
                    break
                yield _whole(blob, wanted, held.pop(wanted))
                wanted += 1
                patience.came()


def _is_missing(message: Msg) -> bool:
    return bool((message.headers or {}).get(h.STATUS))


def _take_missing(held: dict[int, Msg]) -> list[int]:
    """Those of the answers that say that there is no such chunk: their numbers, in order."""
    missing = sorted(number for number, message in held.items() if _is_missing(message))
    for number in missing:
        del held[number]
    return missing


def _whole(blob: BlobRecord, number: int, message: Msg) -> bytes:
    size = min(blob.chunk, blob.size - number * blob.chunk)
    if len(message.data) != size:
        raise BlobCorrupt(
            f"chunk {number} of {blob.sha256[:12]} {blob.name!r} has {len(message.data)} bytes for {size}",
            detail={"sha256": blob.sha256},
        )
    return message.data


class _Patience:
    """With a chunk that is not there: a replica may be late, so it is asked for again before it counts as lost."""

    ahead = WINDOW
    """How many chunks to ask for at once."""

    def __init__(self, connection: Connection, blob: BlobRecord) -> None:
        self.connection = connection
        self._tries = 0
        self.blob = blob

    def came(self) -> None:
        """The chunk that was wanted is there."""
        self._tries = 0

    async def missed(self, number: int) -> None:
        """It is not; wait before the next look. Raises BlobNotFound, BlobCorrupt."""
        self._tries += 1
        if self._tries < (BEHIND_TRIES if self.connection.clustered else MISSING_TRIES):
            await asyncio.sleep(RECONNECT_WAIT_S)
            return
        if not await self.is_stored():
            raise BlobNotFound(f"{self.named} was removed while it was read")
        raise BlobCorrupt(
            f"chunk {number} of {self.named} is lost: upload it again", detail={"sha256": self.blob.sha256}
        )

    async def is_stored(self) -> bool:
        """Whether there is a manifest."""
        return await last_record(self.connection, BLOBS.name, manifest_subject(self.blob.sha256)) is not None

    @property
    def named(self) -> str:
        """The file, for people."""
        return f"{self.blob.sha256[:12]} {self.blob.name!r}"


class _Following(_Patience):
    """With a file that is being uploaded. Where it has caught up it asks for half as many chunks at once, down to one,
    and for twice as many with each that comes: what it asks for in vain stands in the way of the upload."""

    def __init__(self, connection: Connection, blob: BlobRecord) -> None:
        super().__init__(connection, blob)
        self._loop = asyncio.get_running_loop()
        self.came()

    def came(self) -> None:
        """See _Patience."""
        self.ahead = min(WINDOW, 2 * self.ahead)
        self._since = self._loop.time()
        self._wait_s = FOLLOW_WAIT_S[0]

    async def missed(self, number: int) -> None:
        """See _Patience. Raises BlobIncomplete."""
        if self._loop.time() - self._since > FOLLOW_S and not self.connection.just_back:
            done, total = number * self.blob.chunk, self.blob.size
            raise BlobIncomplete(
                f"the upload of {self.named} stopped after {done} of {total} bytes, and that much was read: "
                "what was written from it is incomplete; upload and call again",
                detail={"sha256": self.blob.sha256},
            )
        self.ahead = max(1, self.ahead // 2)
        await asyncio.sleep(self._wait_s)
        self._wait_s = min(2 * self._wait_s, FOLLOW_WAIT_S[1])
