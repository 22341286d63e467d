"""Publish the results of one call to RESULTS: in order, acknowledged, and no faster than they are used.

Messages are pipelined. What is not acknowledged is sent again from the first such message on (go-back-N) after a
reconnect; after silence first that one alone. The reader drops what it has: nothing is lost and nothing comes twice.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from jsnats.schemas import (
    RESULT_RING,
    STORE_FULL,
    CallError,
    OutcomeUnknown,
    StorageFull,
    TooLarge,
    encode,
    encode_error,
    headers as h,
    result_subject,
)
from jsnats.sdk import ApiError, Connection, Disconnected, Message

BATCH_ITEMS = 256
"""Work is spent for each message, not for each item: 256 gave 2.4 times the items per second of 64."""
BATCH_BYTES = 64 * 1024
UNACKED = 64
MAX_BODY = 128 * 1024
"""A message is no larger, so the ring of one call is at most 80 MiB; a larger item travels in fragments."""
TTL_S = 90
"""How long a result is kept for a reader who is there: longer than any outage a stream survives."""
UNUSED_BYTES = 16 << 20
"""Bytes that may be stored ahead of the reader, beside the credit in items."""
RING = RESULT_RING - UNACKED
RESEND_S = 1.0
UNSTORED_S = 15.0
"""After so long without an acknowledgement, over a connection that stands, the call is given up."""
UNLED_S = 40.0
"""The same in a cluster, which may have to elect a leader first."""
UNLIMITED = 1 << 62
MAX_ITEM = 64 << 20


@dataclass(slots=True)
class _Message:
    number: int
    end: tuple[int, int]
    headers: dict[str, str]
    body: bytes


class Publisher:
    """The sending end of one call's results.

    `first_to` is a reply subject that gets a copy of the first message. With `kept`, results stay as long as the
    stream keeps anything, for whoever attaches; else a few minutes. `batch` is how many items go into one message, from
    the size of the last ones; `stored` the position up to which the broker has acknowledged;
    `whole` says that nothing is missing before it.
    """

    def __init__(
        self,
        connection: Connection,
        user: str,
        exporter: str,
        call: str,
        kind: str,
        *,
        credit: int = 1,
        kept: bool = False,
        first_to: str = "",
    ) -> None:
        self.connection = connection
        self._common = {h.CONTENT_TYPE: kind} if kept else {h.CONTENT_TYPE: kind, h.TTL: f"{TTL_S}s"}
        self._first_to = first_to
        self.subject = result_subject(user, exporter, call)
        self.kind = kind
        self.index = 0
        self.stored: tuple[int, int] = (0, 0)
        self.error: CallError | None = None
        self.whole = True
        self._credit = credit
        self._used = 0
        self.batch = 1
        self._number = 0
        self._unacked: deque[_Message] = deque()
        self._unused: deque[tuple[int, int]] = deque()
        self._unused_bytes = 0
        self._changed = asyncio.Event()
        self._acks = ""
        self._resender: asyncio.Task[None] | None = None
        self._progress_at = self._stored_at = 0.0

    def open(self) -> None:
        """Be ready for acknowledgements."""
        self._acks = self.connection.replies.expect(self.subject, self._on_ack, self._on_lost)

    def close(self) -> None:
        """Forget everything; what was stored stays."""
        if self._resender:
            self._resender.cancel()
            self._resender = None
            self.connection.on_reconnect.remove(self._resend)
        self.connection.replies.drop(self._acks)
        self._unacked.clear()
        self._unused.clear()

    # ------------------------------------------------------------------ items

    async def send(self, items: list[Any]) -> None:
        """Publish `items`, waiting for credit. Raises StorageFull, TooLarge, TypeError for what cannot travel."""
        at = 0
        while at < len(items):
            count = min(await self._room(), self.batch, len(items) - at)
            at += await self._send_batch(items[at : at + count])

    async def _room(self) -> int:
        """Wait until an item may be sent; return how many."""
        await self._wait(lambda: self._credit > self.index and self._fits(1, 0))
        return self._credit - self.index

    def _fits(self, messages: int, size: int) -> bool:
        """Say whether so many messages of `size` bytes may be stored beside those that are not read yet."""
        if len(self._unused) + messages > RING or len(self._unacked) >= UNACKED:
            return False
        return self._unused_bytes + size < UNUSED_BYTES or not self._unused

    async def _wait(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds. Raises the error that ends this call."""
        while self.error or not condition():
            if self.error:
                raise self.error
            self._changed.clear()
            await self._changed.wait()

    async def _send_batch(self, items: list[Any]) -> int:
        """Publish one batch, or the first half of it if it is too large; return how many items went."""
        body = encode(items, self.kind)
        size = len(body)
        self.batch = max(1, min(BATCH_ITEMS, BATCH_BYTES * len(items) // size))
        if size > MAX_BODY and len(items) > 1:
            return await self._send_batch(items[: max(1, len(items) // 2)])
        if size > MAX_BODY:
            await self._send_fragments(body)
        else:
            await self._post({h.INDEX: str(self.index)}, body, (self.index + len(items), 0))
        self.index += len(items)
        return len(items)

    async def _send_fragments(self, body: bytes) -> None:
        if len(body) > MAX_ITEM:
            raise TooLarge(f"one result of {len(body) >> 20} MiB is over the limit of {MAX_ITEM >> 20} MiB")
        size = MAX_BODY
        count = -(-len(body) // size)
        await self._wait(lambda: self._fits(count, len(body)))
        for part in range(count):
            await self._wait(lambda: len(self._unacked) < UNACKED)
            end = (self.index + 1, 0) if part == count - 1 else (self.index, part + 1)
            headers = {h.INDEX: str(self.index), h.PART: f"{part}/{count}"}
            await self._post(headers, body[part * size : (part + 1) * size], end)

    async def end(self, how: str, error: CallError | None = None) -> None:
        """Publish the last message and wait until everything is stored. Raises StorageFull."""
        headers = {h.INDEX: str(self.index), h.END: how}
        body = b""
        if error:
            code, body = encode_error(error, self.kind)
            headers[h.ERROR_CODE] = str(code)
        if self.error and not error:
            raise self.error
        self.error = None
        await self._post(headers, body, (self.index, 1))
        await self._wait(lambda: not self._unacked)

    # ------------------------------------------------------------------ messages

    async def _post(self, headers: dict[str, str], body: bytes, end: tuple[int, int]) -> None:
        headers |= self._common
        message = _Message(self._number, end, headers, body)
        self._number += 1
        self._unacked.append(message)
        self._unused.append((end[0], len(body)))
        self._unused_bytes += len(body)
        if len(self._unacked) == 1:
            self._progress_at = self._stored_at = asyncio.get_running_loop().time()
        if self._first_to:
            await self._send_first(message)
        await self._transmit(message)
        if self._resender is None:  # not before: the first item would wait for it
            self._resender = asyncio.ensure_future(self._resend_loop())
            self.connection.on_reconnect.append(self._resend)
        if self._number % 8 == 0:
            await asyncio.sleep(0)  # publish() alone never yields to the loop

    async def _send_first(self, message: _Message) -> None:
        """The first message goes to the caller's reply subject as well: there it is sooner than by way of the store."""
        reply, self._first_to = self._first_to, ""
        with suppress(Disconnected):
            await self.connection.publish(reply, message.body, headers=message.headers | {h.INTERIM: "first"})
        await asyncio.sleep(0)  # written before the stored copy: the broker hands it on while it stores that

    async def _transmit(self, message: _Message, mark: str = "") -> None:
        with suppress(Disconnected):  # the reconnect sends it again
            await self.connection.publish(
                self.subject, message.body, reply=f"{self._acks}+{message.number}{mark}", headers=message.headers
            )

    def _on_ack(self, message: Message) -> None:
        number, _, again = message.subject.partition("+")[2].partition("+")
        self._acknowledged(int(number), message)
        if again and self._unacked and self._unacked[0].number == int(number) + 1:
            self.connection.spawn(self._resend())  # the copy came first: what followed the original is lost too

    def _acknowledged(self, number: int, message: Message) -> None:
        if not self._unacked or number < self._unacked[0].number:
            return
        if b'"error"' in message.data or not message.data:
            self._refused(message.data)
            return
        if number > self._unacked[0].number:
            return  # an earlier one is missing: all from there on are sent again
        self.stored = self._unacked.popleft().end
        self._progress_at = self._stored_at = asyncio.get_running_loop().time()
        self._changed.set()

    def _on_lost(self, error: Exception) -> None:
        """The connection is closed, or the broker denies us the subject."""
        self._fail(OutcomeUnknown(f"results cannot be stored: {error}"))

    def _refused(self, body: bytes) -> None:
        error = json.loads(body).get("error", {}) if body else {}
        if error.get("err_code") in STORE_FULL:
            self._fail(StorageFull("the broker's store for results is full: see `jsnats broker df`"))
        elif error and not ApiError(error).is_passing:
            self._fail(OutcomeUnknown(f"results cannot be stored: {error.get('description')}"))

    def _fail(self, error: CallError) -> None:
        self.error, self.whole = error, False
        self._unacked.clear()
        self._changed.set()

    async def _resend_loop(self) -> None:
        unstored_s = UNLED_S if self.connection.clustered else UNSTORED_S
        while True:
            await asyncio.sleep(RESEND_S / 4)
            now = asyncio.get_running_loop().time()
            if not self._unacked or not self.connection.connected.is_set():
                self._stored_at = now
            elif now - self._stored_at > unstored_s:
                self._fail(
                    OutcomeUnknown("results cannot be stored, the broker does not acknowledge them: is its disk full?")
                )
            elif now - self._progress_at > RESEND_S:
                # Only the first: a broker that was merely slow stores each copy, and the ring has not room for all.
                self._progress_at = now
                await self._transmit(self._unacked[0], "+again")

    async def _resend(self) -> None:
        self._progress_at = asyncio.get_running_loop().time()
        for message in list(self._unacked):
            await self._transmit(message)

    # ------------------------------------------------------------------ credit

    def credit(self, used: int, credit: int) -> None:
        """The reader has used `used` items and allows all below index `credit`."""
        self._used = max(self._used, used)
        self._credit = max(self._credit, credit)
        while self._unused and self._unused[0][0] <= self._used:
            self._unused_bytes -= self._unused.popleft()[1]
        self._changed.set()
