"""A file on its way to the store: hashed, offered, then sent."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Event
from typing import Any

from jsnats.schemas import BLOB_CHUNK, BrokerError, BrokerUnfit, CallError, ConfigurationError, ProtocolError, chunks_of

from ._blob_source import Source
from ._blob_store import BlobInfo, StoreLink, info_of
from ._chunks import send_chunks
from ._transfer import Progress, Transfer

ATTEMPTS = 3


class Offer:
    """A file of which the store knows hash and size, and lacks all, some or none of the bytes. Made by `make_offer`.

    Exporters that get its handle follow the upload, so a call may begin before `send` does.
    """

    def __init__(self, store: StoreLink, source: Source, sha256: str, name: str, tell: Progress | None) -> None:
        self.sha256 = sha256
        self._store = store
        self._source = source
        self._request = {"sha256": sha256, "size": source.size, "name": name}
        self._transfer = Transfer(source.size, tell)
        self._answer: dict[str, Any] = {}
        self._begun = False

    @property
    def whole(self) -> bool:
        """Whether the store has all of it."""
        return bool(self._answer["state"] == "have")

    async def make(self) -> None:
        """Offer it. Raises StorageFull."""
        self._answer = await self._store.ask("put", self._request)

    async def send(self) -> BlobInfo:
        """Upload what the store lacks; again, if that was interrupted. Raises as `Blobs.put`."""
        if self._begun:
            await self.make()
        self._begun = True
        for _ in range(ATTEMPTS):
            if self.whole:
                break
            await self._send(missing_chunks(self._answer, self._source.size))
            self._answer = await self._store.ask("commit", self._request)
        if not self.whole:
            name = self._request["name"] or self.sha256[:12]
            raise BrokerUnfit(f"the store loses what it is sent of {name}: is the broker's disk full?")
        self._transfer.finish()
        return info_of(self._answer.get("blob"), sent=self._transfer.moved)

    async def _send(self, missing: list[int]) -> None:
        self._transfer.begin(self._source.size - len(missing) * BLOB_CHUNK)
        try:
            async with self._store.in_use(self.sha256):
                await send_chunks(await self._store.wide(), self.sha256, self._source, missing, self._transfer.move)
            await asyncio.to_thread(self._source.check)
        except ConfigurationError:
            with suppress(CallError, BrokerError):
                await self._store.ask("rm", {"sha256": self.sha256})  # chunks of two versions under one hash
            raise


async def make_offer(store: StoreLink, source: Source, name: str, tell: Progress | None) -> Offer:
    """Hash a file and offer it. Raises StorageFull, OSError."""
    offer = Offer(store, source, await _hash(source), name, tell)
    await offer.make()
    return offer


async def _hash(source: Source) -> str:
    stop = Event()
    try:
        return await asyncio.to_thread(source.hash, stop)
    finally:
        stop.set()


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
