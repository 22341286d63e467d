"""The store service as its users see it: requests to it, and what it says of a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from jsnats.schemas import (
    BlobRecord,
    BrokerError,
    BrokerUnfit,
    BrokerUnreachable,
    ProtocolError,
    decode_json,
    encode_json,
    error_from_wire,
    headers as h,
    store_subject,
    unescape_user,
)

from ._broker_errors import NoResponders
from ._bulk import Bulk
from ._connection import Connection
from ._lasting import RECONNECT_WAIT_S
from ._nats import Msg

ASK_S, ANSWER_S = 30.0, 3.0
"""How long a request may take, and when it is sent again for the first time: one that may take minutes, because the
store reads a whole file for it, not so soon."""
TAKEOVER_S = 12.0
"""How long a lab may be without a store: one that died is replaced within 10 s, where another stands by."""
IN_USE_S = 600.0
"""How often a long transfer tells the store that the file is in use."""
SCHEME = "blob:"


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
        return SCHEME + self.sha256


def info_of(data: Any, sent: int = 0) -> BlobInfo:
    """What an answer says of a file. Raises ProtocolError."""
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


class StoreLink:
    """Requests over `connection`; chunks travel over `bulk`, if there is one."""

    def __init__(self, connection: Connection, bulk: Bulk | None) -> None:
        self.connection = connection
        self._bulk = bulk

    async def wide(self) -> Connection:
        """What chunks travel over."""
        return await self._bulk.connection() if self._bulk else self.connection

    async def ask(self, verb: str, fields: dict[str, Any], timeout_s: float = ASK_S) -> dict[str, Any]:
        """A request to the store; each may be repeated. Raises CallError as well."""
        message = await self._answer(store_subject(self.connection.token, verb), encode_json(fields), timeout_s)
        answer = decode_json(message.data)
        code = (message.headers or {}).get(h.ERROR_CODE)
        if code:
            raise error_from_wire(int(code) if code.isdigit() else 0, answer)
        if not isinstance(answer, dict):
            raise ProtocolError(f"the store's answer to {verb} is no map")
        return {"state": "", **answer}

    async def _answer(self, subject: str, body: bytes, timeout_s: float) -> Msg:
        """Ask, and wait for a store that takes the place of another, which may have died with what it was asked."""
        now = asyncio.get_running_loop().time
        begin, end = now(), now() + TAKEOVER_S
        first_s = min(timeout_s, max(ANSWER_S, timeout_s / 10))
        answer_s = timeout_s if self.connection.clustered else first_s  # there `read` asks again
        while True:
            try:
                return await self.connection.read(subject, body, timeout_s=answer_s)
            except BrokerUnreachable:
                if not self.connection.connected.is_set() or now() >= begin + timeout_s:
                    raise
                answer_s, end = min(2 * answer_s, begin + timeout_s - now()), now() + TAKEOVER_S
            except NoResponders:
                if now() >= end:
                    url = self.connection.context.url
                    raise BrokerUnfit(
                        f"the broker at {url} runs no store for files: start it with `jsnats broker run`"
                    ) from None
                await asyncio.sleep(RECONNECT_WAIT_S)

    @asynccontextmanager
    async def in_use(self, sha256: str) -> AsyncIterator[None]:
        """Tell the store that the file is in use, so that it is not what makes room for others."""
        telling = asyncio.create_task(self._tell_use(sha256), name=f"in use: {sha256[:12]}")
        try:
            yield
        finally:
            telling.cancel()

    async def _tell_use(self, sha256: str) -> None:
        subject, body = store_subject(self.connection.token, "use"), encode_json({"sha256": sha256})
        while True:
            with suppress(BrokerError):
                await self.connection.publish(subject, body, reply=self.connection.replies.inbox())
            await asyncio.sleep(IN_USE_S)
