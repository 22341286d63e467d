"""The files in the broker's streams, as the store service handles them: manifests, chunks, and what is known of each.

Raw requests on BLOBS and on the bucket `jsnats_store`. Nothing is kept in memory: all is read when it is needed, so any
number of services can serve, and each can be restarted at any time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from jsnats.schemas import (
    BLOBS,
    STORE,
    BlobRecord,
    BrokerUnfit,
    ProtocolError,
    chunk_subject,
    chunks_of,
    decode_json,
    encode_json,
    headers as h,
    manifest_subject,
    store_key,
)
from jsnats.sdk import ApiError, Connection, NoResponders, leader_record, replay

LEAST_COST = 100 * 1024
"""What a file counts at least: so a quota in bytes limits their number too, and the bucket has room for all."""
_PER_CHUNK = 256
"""Bytes that subject and headers of a chunk take in the stream."""
MAX_CHUNKS = 100_000
"""Of one file, so 26 GB. As many subjects JetStream lists in one page, and of several pages the first is not in order
(nats-server 2.15: of 120 000 subjects 108 917 came)."""
PER_SUBJECT = "maximum messages per subject exceeded"
REMOVAL_S = 900


def is_wild(subject: str) -> bool:
    """Say whether a subject, or a token, is a pattern. The broker stores what is published to `jsnats.blob.*.0`."""
    return not {"*", ">"}.isdisjoint(subject.split("."))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the store knows of a file: who uploads or uploaded it, and when it was last `used` (Unix time in s).

    `stored`: the manifest is written. Until then it is an upload that goes on, or was given up.
    """

    sha256: str
    size: int
    owner: str
    name: str = ""
    created: float = 0.0
    used: float = 0.0
    stored: bool = False

    @property
    def cost(self) -> int:
        """The bytes it takes of a quota and of the store."""
        return max(LEAST_COST, self.size + _PER_CHUNK * (chunks_of(self.size) + 1))

    @property
    def blob(self) -> BlobRecord:
        """Its manifest."""
        return BlobRecord(
            sha256=self.sha256,
            size=self.size,
            chunks=chunks_of(self.size),
            name=self.name,
            owner=self.owner,
            created=self.created,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Stands for a while in place of the entry of a file that its `owner` or an admin removed with `request`."""

    request: str
    owner: str


_Note = TypeVar("_Note", Entry, Removal)


class Shelf:
    """Reads and changes what is stored. Everything raises BrokerError; ApiError when JetStream refuses."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    # ------------------------------------------------------------------ what is known of a file

    async def entries(self) -> dict[str, Entry]:
        """All of them, by hash. In a cluster as a server knows them that may be behind the leader."""
        found: dict[str, Entry] = {}
        async for _, message in replay(self.connection, STORE.name, STORE.subjects, last_per_subject=True):
            sha256 = message.subject.rpartition(".")[2]
            entry = _entry(sha256, message.data)
            if entry:
                found[sha256] = entry
        return found

    async def files(self) -> list[Entry]:
        """What is known of each file that is there now, by the leaders of the streams."""
        known = await self.entries()
        found = [known.get(sha256) or await self.entry(sha256) for sha256 in await self.manifests()]
        return [each for each in found if each]

    async def entry(self, sha256: str) -> Entry | None:
        """That of one file."""
        return _entry(sha256, await self._last(STORE.name, store_key(sha256)))

    async def note(self, entry: Entry) -> None:
        """Keep what is known."""
        known = asdict(entry)
        del known["sha256"]
        await self._write(store_key(entry.sha256), encode_json(known))

    # ------------------------------------------------------------------ what is stored of it

    async def manifest(self, sha256: str) -> BlobRecord | None:
        """Its manifest. Read from the stream's leader, so it is never an old state."""
        body = await self._last(BLOBS.name, manifest_subject(sha256))
        return BlobRecord.decode(body) if body else None

    async def manifests(self) -> list[str]:
        """The hashes of all files that are there."""
        return [subject.rpartition(".")[2] async for subject in self._subjects(manifest_subject("*"))]

    async def finish(self, blob: BlobRecord) -> None:
        """Write the manifest, unless another service just did: BLOBS takes one message of each subject."""
        try:
            await self._write(manifest_subject(blob.sha256), blob.encode())
        except ApiError as error:
            if PER_SUBJECT not in str(error):
                raise

    async def present(self, sha256: str) -> set[int]:
        """Which chunks of it are there, up to MAX_CHUNKS."""
        prefix = len(chunk_subject(sha256, 0)) - 1
        found = [subject[prefix:] async for subject in self._subjects(f"{manifest_subject(sha256)}.*")]
        if len(found) > MAX_CHUNKS:
            await self._purge(BLOBS.name, f"{manifest_subject(sha256)}.>")  # no file is so large: somebody's prank
            return set()
        return {int(index) for index in found if index.isascii() and index.isdigit() and len(index) < 12}

    async def hashes(self) -> dict[str, int]:
        """Every second token there is in BLOBS, with the number of its chunks."""
        found: dict[str, int] = {}
        async for subject in self._subjects(BLOBS.subjects):
            tokens = subject.split(".")
            found[tokens[2]] = found.get(tokens[2], 0) + (len(tokens) > 3)
        return found

    async def room(self) -> tuple[int, int]:
        """Bytes that are used of BLOBS, and that it may hold."""
        info = await self.connection.api(f"STREAM.INFO.{BLOBS.name}")
        return int(info["state"]["bytes"]), int(info["config"]["max_bytes"])

    async def drop(self, sha256: str) -> None:
        """Forget it and remove all of it."""
        await self._purge_blob(sha256)
        await self._purge(STORE.name, store_key(sha256))

    async def remove(self, sha256: str, removal: Removal) -> None:
        """As `drop`, and remember for REMOVAL_S who wanted it: whoever did not get the answer asks again, and perhaps
        the store that has taken the place of this one."""
        await self._purge_blob(sha256)
        await self._write(store_key(sha256), encode_json(asdict(removal)), ttl_s=REMOVAL_S)

    async def removal(self, sha256: str) -> Removal | None:
        """The removal of a file of which nothing has been there since."""
        return _noted(Removal, await self._last(STORE.name, store_key(sha256)))

    async def _purge_blob(self, sha256: str) -> None:
        """The manifest goes first: who sees it finds the chunks."""
        await self._purge(BLOBS.name, manifest_subject(sha256))
        await self._purge(BLOBS.name, f"{manifest_subject(sha256)}.>")

    async def trim(self, sha256: str, chunks: int) -> None:
        """Remove what lies beyond the chunks that the manifest counts."""
        wanted = {chunk_subject(sha256, index) for index in range(chunks)}
        more = {subject async for subject in self._subjects(f"{manifest_subject(sha256)}.*")} - wanted
        for subject in more:
            if not is_wild(subject):
                await self._purge(BLOBS.name, subject)
        if any(is_wild(subject) for subject in more):
            await self.weed()

    async def weed(self) -> None:
        """Remove what was stored under a subject with a wildcard in it, which anybody may: by number, because its
        subject would be taken for a pattern."""
        async for sequence, message in replay(self.connection, BLOBS.name, BLOBS.subjects, headers_only=True):
            if is_wild(message.subject):
                await self.connection.api(f"STREAM.MSG.DELETE.{BLOBS.name}", {"seq": sequence})

    # ------------------------------------------------------------------ requests

    async def _write(self, subject: str, body: bytes, *, ttl_s: int = 0) -> None:
        headers = {h.TTL: f"{ttl_s}s"} if ttl_s else None
        try:
            message = await self.connection.read(subject, body, headers=headers)
        except NoResponders:
            raise BrokerUnfit(f"nothing stores {subject.rpartition('.')[0]}: `jsnats broker run` makes it") from None
        answer = decode_json(message.data)
        if "error" in answer:
            raise ApiError(answer["error"])

    async def _last(self, stream: str, subject: str) -> bytes:
        record = await leader_record(self.connection, stream, subject)
        return record.body if record else b""

    async def _subjects(self, pattern: str) -> AsyncIterator[str]:
        """Every subject of BLOBS that fits, in the pages that JetStream gives."""
        offset = 0
        while True:
            ask = {"subjects_filter": pattern, "offset": offset}
            info = await self.connection.api(f"STREAM.INFO.{BLOBS.name}", ask, timeout_s=30.0)
            subjects = info["state"].get("subjects") or {}
            for subject in subjects:
                yield subject
            offset += len(subjects)
            if not subjects or offset >= info.get("total", 0):
                return

    async def _purge(self, stream: str, subject: str) -> None:
        await self.connection.api(f"STREAM.PURGE.{stream}", {"filter": subject})


def _entry(sha256: str, body: bytes) -> Entry | None:
    return _noted(Entry, body, sha256=sha256)


def _noted(kind: type[_Note], body: bytes, **more: str) -> _Note | None:
    """Read what was noted; None for what is something else, or cannot be read: as if it had never been noted."""
    try:
        known: Any = decode_json(body)
        return kind(**{key: known[key] for key in known if key in kind.__dataclass_fields__} | more)
    except (ProtocolError, TypeError):
        return None
