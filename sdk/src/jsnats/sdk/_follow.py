"""Read what a stream has stored and go on with what is stored from now on, through outages of the broker.

A pull consumer that waits: the broker scopes it by permission, nothing is lost when the reader is slow, and a reader
that is away begins again where it was.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jsnats.schemas import BrokerUnreachable, ProtocolError, check_delivery, headers as h

from ._broker_errors import ApiError, Disconnected, NoResponders
from ._connection import Connection
from ._consumer import create_consumer
from ._nats import Msg
from ._replay import last_sequence

BATCH = 256
EXPIRES_S = 30.0
HEARTBEAT_S = 5.0
RETRY_S = 0.25
_NS = 10**9
CHECK_S = 2.0
_REFUSED = {"batch": 1, "expires": _NS, "idle_heartbeat": _NS}
"""A heartbeat may last half as long as the request at most, so this one delivers nothing."""
_PULL_AGAIN = frozenset({"404", "408"})
_HEARTBEAT = "100"


@dataclass(frozen=True, slots=True)
class Delivered:
    """A stored message. `stored` is Unix time in s of the broker's clock; `pending` how many more there are now."""

    sequence: int
    stored: float
    pending: int
    message: Msg


@dataclass(frozen=True, slots=True)
class Begun:
    """A consumer was made: `pending` messages are there. Unix time of the broker's clock is `clock_offset` more than
    `time.monotonic()` here, and by what the answer took on its way."""

    pending: int
    clock_offset: float


@dataclass(frozen=True, slots=True)
class Idle:
    """There is nothing more right now. A message that expired meanwhile is counted as pending, but never comes."""


class ReadAgain(Exception):
    """The consumer is gone, for whatever reason: make another."""


async def follow(
    connection: Connection, stream: str, subject: str, *, after: int = 0, since: float | None = None
) -> AsyncGenerator[Delivered, None]:
    """Yield what `stream` holds for `subject`, then what comes, for ever.

    It begins beyond sequence `after`, or at what was stored at Unix time `since` in s of the broker's clock. Waits for
    the broker as long as it takes; if that comes back with a store that ends before what was read, it goes on by time.
    Raises AccessDenied, ApiError.
    """
    again = False
    while True:
        try:
            if again and after and (end := await _end(connection, stream, subject)) < after:
                # Not the store that was read before: it comes from a backup, or is new. Time goes on in any of them.
                after = end if since is None else 0
            async with aclosing(consume(connection, stream, subject, _begin_at(after, since))) as found:
                async for each in found:
                    if isinstance(each, Delivered):
                        after, since = each.sequence, each.stored
                        yield each
        except (BrokerUnreachable, Disconnected, ReadAgain):
            again = True
            await connection.connected.wait()
            await asyncio.sleep(RETRY_S)


async def _end(connection: Connection, stream: str, subject: str) -> int:
    try:
        return await last_sequence(connection, stream, subject)
    except ApiError:
        if connection.just_back:
            raise ReadAgain from None
        raise


def _begin_at(after: int, since: float | None) -> dict[str, Any]:
    if after or since is None:
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
    return {"deliver_policy": "by_start_time", "opt_start_time": datetime.fromtimestamp(since, UTC).isoformat()}


async def consume(
    connection: Connection, stream: str, subject: str, config: dict[str, Any]
) -> AsyncGenerator[Begun | Idle | Delivered, None]:
    """Make a consumer; yield Begun, then what it delivers, and Idle while that is nothing, until it is gone.

    Raises Disconnected, ReadAgain, BrokerUnreachable, AccessDenied, ApiError.
    """
    try:
        name, created = await create_consumer(connection, stream, subject, config, idle_s=2 * HEARTBEAT_S)
    except ApiError:
        if connection.just_back:  # the stream itself is there a little later than its server
            raise ReadAgain from None
        raise
    # Not the middle of the request: after an outage that was repeated for seconds, and only the answer is as old as
    # one way takes. A lease would end too early by half of it.
    offset = datetime.fromisoformat(created["ts"]).timestamp() - time.monotonic()
    yield Begun(int(created.get("num_pending", 0)), offset)
    async with aclosing(_pull(connection, stream, name)) as pulled:
        async for each in pulled:
            yield each


async def _pull(connection: Connection, stream: str, name: str) -> AsyncGenerator[Idle | Delivered, None]:
    inbox: asyncio.Queue[Msg | Exception] = asyncio.Queue()
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
    # Messages of a consumer carry the stored subject, so the shared reply subscription could not route them.
    reply = connection.replies.inbox()
    subscription = await connection.subscribe(reply, inbox.put)
    # Nothing is expected there: it tells at once that the request was refused or the connection lost.
    watched = connection.replies.expect(subject, inbox.put_nowait, inbox.put_nowait, once=True)
    ask = {"batch": BATCH, "expires": int(EXPIRES_S * _NS), "idle_heartbeat": int(HEARTBEAT_S * _NS)}

    def check() -> None:
        connection.spawn(_check(connection, subject, inbox))

    connection.together.told.append(check)
    try:
        while True:
            await connection.publish(subject, json.dumps(ask).encode(), reply=reply)
            left = BATCH
            while left:
                message = await _next(inbox)
                status = (message.headers or {}).get(h.STATUS)
                if status is None:
                    left -= 1
                    yield _delivered(message, stream, name)
                elif status in _PULL_AGAIN:
                    break
                elif status == _HEARTBEAT:
                    yield Idle()
                else:
                    raise ReadAgain
    finally:
        connection.together.told.remove(check)
        connection.replies.drop(watched)
        await subscription.close()


async def _check(connection: Connection, subject: str, inbox: asyncio.Queue[Msg | Exception]) -> None:
    """A server has come or gone, and the consumer may have been there: see whether it refuses what cannot be asked."""
    try:
        await connection.request(subject, json.dumps(_REFUSED).encode(), timeout_s=CHECK_S)
    except (NoResponders, TimeoutError):
        inbox.put_nowait(ReadAgain())
    except Disconnected:
        pass  # this is told to whoever pulls


async def _next(inbox: asyncio.Queue[Msg | Exception]) -> Msg:
    try:
        async with asyncio.timeout(3 * HEARTBEAT_S):
            got = await inbox.get()
    except TimeoutError:
        raise ReadAgain from None
    if isinstance(got, Exception):
        raise got
    return got


def _delivered(message: Msg, stream: str, name: str) -> Delivered:
    check_delivery(message.subject, message.reply, stream, name, message.subject)
    return delivered(message)


def delivered(message: Msg) -> Delivered:
    """What a checked delivery says of itself. Raises ProtocolError."""
    tokens = message.reply.split(".")
    try:
        return Delivered(int(tokens[5]), int(tokens[7]) / _NS, int(tokens[8]), message)
    except (IndexError, ValueError) as error:
        raise ProtocolError("a delivery without a sequence") from error
