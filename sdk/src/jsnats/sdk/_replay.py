"""Read what a stream has stored: a pull consumer with a random name, gone by itself after a few seconds.

The filter stands in the subject of the create request, so the broker scopes it by permission. The name is random
because a consumer's name is all that another user would need to pull from it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, NamedTuple

from jsnats.schemas import (
    RESULTS,
    BrokerUnreachable,
    OutcomeUnknown,
    ProtocolError,
    check_delivery,
    headers as h,
    result_subject,
)

from ._assemble import Assembler
from ._broker_errors import Disconnected
from ._connection import Connection
from ._consumer import create_consumer
from ._lasting import RECONNECT_WAIT_S
from ._nats import Msg

BATCH = 2048
IDLE_S = 10.0
GONE_TRIES = 8
"""In a cluster, how often another consumer is made in a row that delivers nothing: each may be at a dying server."""


async def replay(
    connection: Connection,
    stream: str,
    subject: str,
    *,
    after: int = 0,
    since: float | None = None,
    last_per_subject: bool = False,
    headers_only: bool = False,
    batch: int = BATCH,
) -> AsyncGenerator[tuple[int, Msg], None]:
    """Yield (sequence, message) of what `stream` holds for `subject`, until there is no more.

    It begins beyond sequence `after`, or at what was stored at Unix time `since` (in s, of the broker's clock). With
    `last_per_subject`, only the newest of each subject; with `headers_only`, bodies are empty. At most `batch` messages
    are under way; the caller may take its time between them. After an outage it goes on. Raises AccessDenied, ApiError,
    BrokerUnreachable; with `last_per_subject` also Disconnected.
    """
    config: dict[str, Any] = {
        "deliver_policy": "last_per_subject" if last_per_subject else "all",
        "headers_only": headers_only,
    }
    if since is not None:
        moment = datetime.fromtimestamp(since, UTC).isoformat()
        config |= {"deliver_policy": "by_start_time", "opt_start_time": moment}
    tries = GONE_TRIES if connection.clustered else 0
    while True:
        if after and not last_per_subject:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
            config.pop("opt_start_time", None)
        reached = after
        try:
            async with aclosing(_consume(connection, stream, subject, config, batch)) as stored:
                async for sequence, message in stored:
                    after = sequence
                    yield sequence, message
            return
        except Disconnected:
            if last_per_subject:
                raise
            await connection.wait_connected()
        except _ConsumerGone:
            if connection.clustered and last_per_subject and after != reached:
                raise Disconnected(f"the server that read out {stream} is gone") from None
            tries = GONE_TRIES if after != reached else tries - 1
            if tries < 0 or (last_per_subject and not connection.clustered):
                raise BrokerUnreachable(f"the broker at {connection.context.url} does not read out {stream}") from None
            if after == reached:
                await asyncio.sleep(RECONNECT_WAIT_S)


class Present(NamedTuple):
    """Now, at the broker: what comes is stored beyond `sequence`; `time` is Unix time in s."""

    sequence: int
    time: float


async def last_sequence(connection: Connection, stream: str, subject: str) -> int:
    """Return the sequence beyond which `replay` of that subject finds only what is stored from now on.

    Raises AccessDenied, ApiError, BrokerUnreachable.
    """
    return (await present(connection, stream, subject)).sequence


async def present(connection: Connection, stream: str, subject: str) -> Present:
    """Ask the broker where that subject of the stream ends now, and what time it is.

    Raises AccessDenied, ApiError, BrokerUnreachable.
    """
    _, created = await create_consumer(connection, stream, subject, {"deliver_policy": "new"}, idle_s=1.0)
    return Present(int(created["delivered"]["stream_seq"]), datetime.fromisoformat(created["ts"]).timestamp())


class _ConsumerGone(Exception):
    """The reader paused for longer than the broker keeps an idle consumer, or the broker was restarted."""


async def _consume(
    connection: Connection, stream: str, subject: str, config: dict[str, Any], batch: int
) -> AsyncGenerator[tuple[int, Msg], None]:
    name, created = await create_consumer(connection, stream, subject, config, idle_s=IDLE_S)
    pending = int(created.get("num_pending", 0))
    if pending:
        async with aclosing(_pull(connection, stream, name, pending, batch)) as pulled:
            async for message in pulled:
                yield message


async def _pull(
    connection: Connection, stream: str, name: str, pending: int, batch: int
) -> AsyncGenerator[tuple[int, Msg], None]:
    inbox: asyncio.Queue[Msg | Exception] = asyncio.Queue()
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
    # Messages of a consumer carry the stored subject, so the shared reply subscription could not route them.
    reply = connection.replies.inbox()
    subscription = await connection.subscribe(reply, inbox.put)
    # Nothing is expected there: it tells at once that the request was refused or the connection lost.
    watched = connection.replies.expect(subject, inbox.put_nowait, inbox.put_nowait, once=True)
    try:
        while pending:
            ask = json.dumps({"batch": batch, "no_wait": True}).encode()
            await connection.publish(subject, ask, reply=reply)
            for _ in range(min(batch, pending)):
                message = await _next(inbox, connection, stream)
                if message.headers and h.STATUS in message.headers:
                    if message.headers[h.STATUS] in _NO_MORE:
                        return
                    raise _ConsumerGone
                sequence, pending = _delivered(message, stream, name)
                yield sequence, message
    finally:
        connection.replies.drop(watched)
        await subscription.close()


_NO_MORE = frozenset({"404", "408"})


async def _next(inbox: asyncio.Queue[Msg | Exception], connection: Connection, stream: str) -> Msg:
    if not inbox.empty():
        got = inbox.get_nowait()  # a timeout costs more than the message
    else:
        try:
            async with asyncio.timeout(5.0):
                got = await inbox.get()
        except TimeoutError:
            if connection.clustered:
                raise _ConsumerGone from None
            url = connection.context.url
            raise BrokerUnreachable(f"the broker at {url} stopped while it read out {stream}") from None
    if isinstance(got, Exception):
        raise got
    return got


def _delivered(message: Msg, stream: str, name: str) -> tuple[int, int]:
    check_delivery(message.subject, message.reply, stream, name, message.subject)
    tokens = message.reply.split(".")
    try:
        return int(tokens[5]), int(tokens[8])
    except (IndexError, ValueError) as error:
        raise ProtocolError("a delivery without a sequence") from error


async def stored_result(connection: Connection, exporter: str, call: str) -> Any:
    """Return the big result of a call, which the exporter stored in parts before it answered."""
    assembler = Assembler()
    items: list[Any] = []
    async for _, message in replay(connection, RESULTS.name, result_subject(connection.token, exporter, call)):
        items += assembler.take(message.headers or {}, message.data)
    if assembler.error:
        raise assembler.error
    if not assembler.ended or not items:
        raise OutcomeUnknown("the stored result is incomplete: it may have expired")
    return items[0]
