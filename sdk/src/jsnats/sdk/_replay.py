"""Read what a stream has stored: a pull consumer with a random name, gone by itself after a few seconds.

The filter stands in the subject of the create request, so the broker scopes it by permission. The name is random
because a consumer's name is all that another user would need to pull from it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

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
from ._connection import Connection
from ._nats import Msg

BATCH = 2048
_IDLE_NS = 10 * 10**9


async def replay(
    connection: Connection, stream: str, subject: str, *, after: int = 0, last_per_subject: bool = False
) -> AsyncIterator[tuple[int, Msg]]:
    """Yield (sequence, message) of what `stream` holds for `subject`, beyond sequence `after`, until there is no more.

    With `last_per_subject`, only the newest of each subject. Raises AccessDenied, ApiError, BrokerUnreachable.
    """
    name = secrets.token_hex(16)
    config: dict[str, Any] = {
        "name": name,
        "ack_policy": "none",
        "filter_subject": subject,
        "mem_storage": True,
        "inactive_threshold": _IDLE_NS,
        "deliver_policy": "last_per_subject" if last_per_subject else "all",
    }
    if after and not last_per_subject:
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
    created = await connection.api(
        f"CONSUMER.CREATE.{stream}.{name}.{subject}", {"stream_name": stream, "config": config}
    )
    pending = int(created.get("num_pending", 0))
    if pending:
        async for message in _pull(connection, stream, name, pending):
            yield message


async def _pull(connection: Connection, stream: str, name: str, pending: int) -> AsyncIterator[tuple[int, Msg]]:
    inbox: asyncio.Queue[Msg] = asyncio.Queue()
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
    # Messages of a consumer carry the stored subject, so the shared reply subscription could not route them.
    reply = connection.replies.inbox()
    subscription = await connection.subscribe(reply, inbox.put)
    try:
        while pending:
            ask = json.dumps({"batch": BATCH, "no_wait": True}).encode()
            await connection.publish(subject, ask, reply=reply)
            for _ in range(min(BATCH, pending)):
                message = await _next(inbox, connection, stream)
                if message.headers and h.STATUS in message.headers:
                    return
                sequence, pending = _delivered(message, stream, name)
                yield sequence, message
    finally:
        await subscription.close()


async def _next(inbox: asyncio.Queue[Msg], connection: Connection, stream: str) -> Msg:
    if not inbox.empty():
        return inbox.get_nowait()  # a timeout costs more than the message
    try:
        async with asyncio.timeout(5.0):
            return await inbox.get()
    except TimeoutError:
        raise BrokerUnreachable(f"the broker at {connection.context.url} stopped while it read out {stream}") from None


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
