"""The storekeeper: what each request to the store does. See the section Files of the protocol.

All that is known lies in the broker's streams; here is only a lock, so that no two requests change the same at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any

from jsnats.schemas import (
    BLOB_CHUNK,
    BlobCorrupt,
    BlobNotFound,
    BlobRecord,
    Busy,
    InvalidArgument,
    StorageFull,
    TooLarge,
    check_digest,
    chunks_of,
    unescape_user,
)
from jsnats.sdk import Connection, read_blob, size_text

from ._garbage import expired, victims
from ._requests import Verb
from ._shelf import MAX_CHUNKS, Entry, Removal, Shelf, is_wild

log = logging.getLogger("jsnats.store")

QUOTA = 0.5
"""Share of BLOBS that one principal's files may take."""
MAX_CHECKS = 8
USE_S = 60.0
"""The last use is known that exactly: writing down each would cost more than the request."""
COMING_S = 900.0
"""An upload of which nothing was heard for so long is not followed: who uploads asks `use` every 600 s."""
PAGE = 1000
MAX_NAME = 120
MAX_RANGES = 10_000

Admins = Callable[[str], bool]


class Storekeeper:
    """Does what is asked, `verbs` by name. `is_admin` says whether a principal may see and remove everybody's
    files; it may block.
    """

    def __init__(
        self,
        connection: Connection,
        is_admin: Admins,
        *,
        quota: float = QUOTA,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.shelf = Shelf(connection)
        self._connection = connection
        self._is_admin = is_admin
        self._quota = quota
        self._clock = clock
        self._checks = 0
        self._changing = asyncio.Lock()
        self._checking = asyncio.Lock()
        self.verbs: dict[str, Verb] = {
            "put": self._put,
            "commit": self._commit,
            "use": self._use,
            "ls": self._ls,
            "rm": self._rm,
            "bad": self._bad,
        }

    # ------------------------------------------------------------------ verbs

    async def _put(self, who: str, fields: dict[str, Any]) -> dict[str, Any]:
        return await self._offer(self._wanted(who, fields), finish=False)

    async def _commit(self, who: str, fields: dict[str, Any]) -> dict[str, Any]:
        return await self._offer(self._wanted(who, fields), finish=True)

    def _wanted(self, who: str, fields: dict[str, Any]) -> Entry:
        now = self._clock()
        size, name = fields.get("size"), fields.get("name", "")
        if type(size) is not int or size < 0 or not isinstance(name, str):
            raise InvalidArgument("a file has a `size` in bytes and a `name`, which is text")
        if chunks_of(size) > MAX_CHUNKS:
            raise TooLarge(
                f"a file may have {size_text(MAX_CHUNKS * BLOB_CHUNK)}, this has {size_text(size)}: split it"
            )
        name = "".join(each for each in name if each.isprintable())[-MAX_NAME:]
        sha256 = check_digest(fields.get("sha256"))
        return Entry(sha256=sha256, size=size, owner=who, name=name, created=now, used=now)

    async def _offer(self, wanted: Entry, *, finish: bool) -> dict[str, Any]:
        """Say what is missing of a file; with `finish`, write its manifest if nothing is."""
        await self._expect_size(wanted)
        async with self._changing:
            blob = await self.shelf.manifest(wanted.sha256)
            if blob:
                await self._note_use(blob)
                return _have(blob)
            count = chunks_of(wanted.size)
            present = {index for index in await self.shelf.present(wanted.sha256) if index < count}
            known = await self.shelf.entry(wanted.sha256)
            if known is None or (known.owner, known.size) != (wanted.owner, wanted.size):
                await self._admit(wanted, len(present) * BLOB_CHUNK)
            if not finish or len(present) < count:
                await self.shelf.note(wanted)
                return {"state": "send", "have": _ranges(present)}
            await self.shelf.finish(wanted.blob)
            await self.shelf.note(replace(wanted, stored=True))
        return _have(await self.shelf.manifest(wanted.sha256) or wanted.blob)

    async def _expect_size(self, wanted: Entry) -> None:
        """Two sizes for one hash: one of them is wrong. Drops the stored file if it is that one."""
        blob = await self.shelf.manifest(wanted.sha256)
        if blob and blob.size != wanted.size and await self._is_good(blob):
            raise InvalidArgument(f"{wanted.sha256[:12]} has {blob.size} bytes, not {wanted.size}")

    async def _use(self, who: str, fields: dict[str, Any]) -> dict[str, Any]:
        sha256 = check_digest(fields.get("sha256"))
        async with self._changing:
            blob = await self.shelf.manifest(sha256)
            if blob:
                await self._note_use(blob)
                return _have(blob)
            coming = await self.shelf.entry(sha256)
            if coming is None or coming.stored:
                raise _not_found(sha256)
            now = self._clock()
            if coming.owner == who:
                await self.shelf.note(replace(coming, used=now))
        if now - coming.used > COMING_S:
            raise _not_found(sha256)  # somebody's, who gave it up
        return {"state": "coming", "blob": asdict(coming.blob)}

    async def _ls(self, who: str, fields: dict[str, Any]) -> dict[str, Any]:
        offset = fields.get("offset", 0)
        if type(offset) is not int or offset < 0:
            raise InvalidArgument("`offset` is the number of files to leave out")
        everybody = await asyncio.to_thread(self._is_admin, who)
        found = await self.shelf.files()
        shown = sorted((each for each in found if everybody or each.owner == who), key=lambda each: -each.used)
        page = [asdict(each.blob) | {"used": each.used} for each in shown[offset : offset + PAGE]]
        return {"blobs": page, "total": len(shown)}

    async def _rm(self, who: str, fields: dict[str, Any]) -> dict[str, Any]:
        sha256, request = check_digest(fields.get("sha256")), _request_of(who, fields)
        async with self._changing:
            known = await self.shelf.entry(sha256) or await self.shelf.manifest(sha256)
            if known is None:
                removal = await self.shelf.removal(sha256)
                if request and removal and removal.request == request:
                    return {"state": "dropped", "owner": removal.owner}  # asked again: the first answer was lost
                raise _not_found(sha256)
            if known.owner != who and not await asyncio.to_thread(self._is_admin, who):
                owner = unescape_user(known.owner)
                raise BlobNotFound(f"{sha256[:12]} is no file of yours: {owner} or an admin may remove it")
            await self.shelf.remove(sha256, Removal(request=request, owner=known.owner))
        return {"state": "dropped", "owner": known.owner}

    async def _bad(self, who: str, fields: dict[str, Any]) -> dict[str, Any]:
        sha256 = check_digest(fields.get("sha256"))
        blob = await self.shelf.manifest(sha256)
        if blob is None:
            raise _not_found(sha256)
        if await self._is_good(blob):
            return {"state": "good"}
        log.warning("%s %r, uploaded by %s, was something else: dropped", sha256[:12], blob.name, blob.owner)
        return {"state": "dropped", "owner": blob.owner}

    # ------------------------------------------------------------------ what they share

    async def _note_use(self, blob: BlobRecord) -> None:
        entry = await self.shelf.entry(blob.sha256)
        now = self._clock()
        if entry is None or not entry.stored or now - entry.used >= USE_S:
            await self.shelf.note(_adopted(blob, now))

    async def _is_good(self, blob: BlobRecord) -> bool:
        """Read a file through, and drop it if it is wrong. One at a time: it takes a processor."""
        if self._checks >= MAX_CHECKS:
            raise Busy(f"the store is checking {self._checks} files already: try again later")
        self._checks += 1
        try:
            async with self._checking, aclosing(read_blob(self._connection, blob)) as pieces:
                async for _ in pieces:
                    pass
            return True
        except BlobCorrupt:
            async with self._changing:
                if await self.shelf.manifest(blob.sha256) == blob:
                    await self.shelf.drop(blob.sha256)
            return False
        finally:
            self._checks -= 1

    async def _admit(self, wanted: Entry, there: int) -> None:
        """Make room for a file of which `there` bytes are stored. Raises StorageFull."""
        others = [each for each in (await self.shelf.entries()).values() if each.sha256 != wanted.sha256]
        used, total = await self.shelf.room()
        mine = [each for each in others if each.owner == wanted.owner]
        allowed = int(total * self._quota)
        told = f"you may store {size_text(allowed)} and have {size_text(_cost(mine))}"
        gone = await self._make_room(wanted, mine, _cost(mine) + wanted.cost - allowed, told)
        others = [each for each in others if each not in gone]
        used = max(used - there - _cost(gone), _cost(others))
        told = f"the lab's store has {size_text(max(0, total - used))} left of {size_text(total)}"
        await self._make_room(wanted, others, used + wanted.cost - total, told)

    async def _make_room(self, wanted: Entry, entries: list[Entry], needed: int, told: str) -> list[Entry]:
        chosen = victims(entries, needed, self._clock())
        if needed > 0 and not chosen:
            name = wanted.name or wanted.sha256[:12]
            raise StorageFull(
                f"no room for the {size_text(wanted.size)} of {name}: {told}; see `jsnats blob ls` and `rm`"
            )
        for each in chosen:
            log.info("%s %r makes room for %s", each.sha256[:12], each.name, wanted.sha256[:12])
            await self.shelf.drop(each.sha256)
        return chosen

    # ------------------------------------------------------------------ garbage

    async def sweep(self) -> None:
        """Drop what has been unused for long, what was never finished, and what belongs to no file."""
        entries = await self.shelf.entries()
        there = await self.shelf.hashes()
        for entry in expired(entries.values(), self._clock()):
            async with self._changing:
                if await self.shelf.entry(entry.sha256) == entry:
                    await self.shelf.drop(entry.sha256)
        if any(is_wild(each) for each in there) or any(count > MAX_CHUNKS for count in there.values()):
            await self.shelf.weed()
        for sha256 in there.keys() - entries.keys():
            if not is_wild(sha256):
                await self._adopt(sha256)
        for entry in entries.values():
            if entry.stored and there.get(entry.sha256, 0) > chunks_of(entry.size):
                await self._trim(entry.sha256)

    async def _trim(self, sha256: str) -> None:
        """Chunks beyond the end of a file go. By its manifest of now: what was dropped may have come back larger."""
        async with self._changing:
            blob = await self.shelf.manifest(sha256)
            if blob:
                await self.shelf.trim(sha256, blob.chunks)

    async def _adopt(self, sha256: str) -> None:
        """Something without an entry: a file whose entry was lost, or chunks of nobody who asked before."""
        async with self._changing:
            if await self.shelf.entry(sha256):
                return
            blob = await self.shelf.manifest(sha256)
            if blob:
                await self.shelf.note(_adopted(blob, self._clock()))
            else:
                await self.shelf.drop(sha256)


def _request_of(who: str, fields: dict[str, Any]) -> str:
    """What a request has in common with its repetitions; "" if it does not say."""
    said = fields.get("request")
    return f"{who} {said}" if isinstance(said, str) and 0 < len(said) <= MAX_NAME else ""


def _have(blob: BlobRecord) -> dict[str, Any]:
    return {"state": "have", "blob": asdict(blob)}


def _adopted(blob: BlobRecord, now: float) -> Entry:
    return Entry(
        sha256=blob.sha256,
        size=blob.size,
        owner=blob.owner,
        name=blob.name,
        created=blob.created,
        used=now,
        stored=True,
    )


def _ranges(present: Iterable[int]) -> list[list[int]]:
    """Numbers as ranges [first, end). What does not fit the answer is sent again, which does no harm."""
    found: list[list[int]] = []
    for index in sorted(present):
        if found and found[-1][1] == index:
            found[-1][1] += 1
        else:
            found.append([index, index + 1])
    return found[:MAX_RANGES]


def _cost(entries: Iterable[Entry]) -> int:
    return sum(each.cost for each in entries)


def _not_found(sha256: str) -> BlobNotFound:
    return BlobNotFound(f"the lab has no file {sha256[:12]}, or not any more: upload it again")
