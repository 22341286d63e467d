"""A stream out of JetStream and into it, as chunks of a snapshot.

nats-server sends a snapshot to a subject of ours and wants each chunk acknowledged; for a restore it names a subject
and acknowledges each chunk that it gets there. An empty chunk is the end of either. What a chunk holds is the
server's own affair, and 2.15 checks it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Any

from jsnats.schemas import BrokerUnfit, BrokerUnreachable, headers as h
from jsnats.sdk import ApiError, Connection, Disconnected, Message, NoResponders

CHUNK = 512 << 10
"""Bytes. Half of what a message may have."""
SILENCE_S = 30.0
"""For so long a server may prepare a snapshot, or what follows of it. Losing the connection is told at once."""
RESTORE_S = 900.0
"""For so long it may work on what it has been given, after the last chunk: it reads all of it once more."""
ROOM_S, RETRY_S = 30.0, 0.5
"""For how long, and how often, a cluster that says that it has no room is asked again."""
HEARD_S, HEARD_RETRY_S = 5.0, 0.1
"""For how long, and how often, the first chunk is offered to a server that nobody has heard of yet."""
AHEAD = 8
"""Chunks on their way to the server."""


Keep = Callable[[str, bytes], Awaitable[None]]
"""Takes name and content of what is to be kept, in order."""


async def save_stream(connection: Connection, stream: str, keep: Keep) -> dict[str, Any]:
    """Hand definition and state of a stream to `keep`, as stream.json, then the chunks of a snapshot; return the state.

    Raises BrokerUnreachable when the broker goes away meanwhile, BrokerUnfit when it gives up, ApiError.
    """
    inbox: asyncio.Queue[Message | Exception] = asyncio.Queue()
    reply = connection.replies.inbox()
    subscription = await connection.subscribe(reply, inbox.put)
    # No reply is expected there: it tells of a lost connection. What a successor sends belongs to no snapshot of ours.
    watched = connection.replies.expect(reply, lambda _: None, inbox.put_nowait, once=True)
    try:
        about = await _begin(connection, stream, reply)
        await keep("stream.json", json.dumps(about, indent=1).encode())
        await _take(connection, stream, inbox, keep)
    except (Disconnected, TimeoutError) as error:
        url = connection.context.url
        raise BrokerUnreachable(f"the broker at {url} went away while {stream} was read") from error
    finally:
        connection.replies.drop(watched)
        await subscription.close()
    state: dict[str, Any] = about["state"]
    return state


async def _begin(connection: Connection, stream: str, reply: str) -> dict[str, Any]:
    ask = {"deliver_subject": reply, "no_consumers": True, "chunk_size": CHUNK}
    # Not `api`, which asks again after an outage: two snapshots would arrive on one subject.
    subject = f"$JS.API.STREAM.SNAPSHOT.{stream}"
    answer = json.loads((await connection.request(subject, json.dumps(ask).encode(), timeout_s=SILENCE_S)).data)
    if "error" in answer:
        raise ApiError(answer["error"])
    return {"config": answer["config"], "state": answer["state"]}


async def _take(connection: Connection, stream: str, inbox: asyncio.Queue[Message | Exception], keep: Keep) -> None:
    count = 0
    while (message := await _next(inbox)).data:
        count += 1
        # The acknowledgement of a chunk has its number; the last chunk may have none.
        if message.reply and message.reply.rpartition(".")[2] != str(count):
            raise BrokerUnfit(f"a chunk of the snapshot of {stream} is missing: try again")
        await keep(f"{count:08}", bytes(message.data))
        if message.reply:
            await connection.publish(message.reply)
    if (message.headers or {}).get(h.STATUS, "204") != "204":
        raise BrokerUnfit(f"the broker gave up on the snapshot of {stream}: {message.headers}")


async def _next(inbox: asyncio.Queue[Message | Exception]) -> Message:
    async with asyncio.timeout(SILENCE_S):
        got = await inbox.get()
    if isinstance(got, Exception):
        raise got
    return got


async def restore_stream(connection: Connection, config: dict[str, Any], chunks: Iterable[bytes]) -> dict[str, Any]:
    """Make a stream from the chunks of a snapshot, and return its state. There must be none of that name.

    Raises BrokerUnfit when the broker refuses it, and then there is none; BrokerUnreachable.
    """
    stream = config["name"]
    try:
        subject = (await _offer(connection, config))["deliver_subject"]
        await _send(connection, stream, subject, chunks)
        state: dict[str, Any] = _checked(stream, (await connection.request(subject, b"", timeout_s=RESTORE_S)).data)[
            "state"
        ]
    except (Disconnected, TimeoutError) as error:
        url = connection.context.url
        raise BrokerUnreachable(f"the broker at {url} went away while {stream} was restored") from error
    return state


async def _offer(connection: Connection, config: dict[str, Any]) -> dict[str, Any]:
    """Ask for the restore. Of a cluster that has just dropped streams, each server tells the others only some seconds
    later that it has room again."""
    subject, body = f"$JS.API.STREAM.RESTORE.{config['name']}", json.dumps({"config": config}).encode()
    end = time.monotonic() + ROOM_S
    while True:
        answer: dict[str, Any] = json.loads((await connection.request(subject, body, timeout_s=SILENCE_S)).data)
        if "error" not in answer:
            return answer
        if not ApiError(answer["error"]).is_passing or time.monotonic() > end:
            raise BrokerUnfit(f"the broker could not restore {config['name']}: {answer['error'].get('description')}")
        await asyncio.sleep(RETRY_S)


async def _send(connection: Connection, stream: str, subject: str, chunks: Iterable[bytes]) -> None:
    """Each chunk is a request, some of them on their way at a time; they are sent in their order."""
    under_way: deque[asyncio.Task[Message]] = deque()
    rest = iter(chunks)
    for first in islice(rest, 1):
        _checked(stream, (await _first(connection, subject, first)).data)
    try:
        for chunk in rest:
            under_way.append(asyncio.ensure_future(connection.request(subject, chunk, timeout_s=SILENCE_S)))
            if len(under_way) >= AHEAD:
                _checked(stream, (await under_way.popleft()).data)
        while under_way:
            _checked(stream, (await under_way.popleft()).data)
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _first(connection: Connection, subject: str, first: bytes) -> Message:
    """Who takes the chunks may be at another server of a cluster than we, and ours hears of it in a moment."""
    end = time.monotonic() + HEARD_S
    while True:
        try:
            return await connection.request(subject, first, timeout_s=SILENCE_S)
        except NoResponders:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(HEARD_RETRY_S)


def _checked(stream: str, data: bytes) -> dict[str, Any]:
    if not data:
        return {}
    if data.startswith(b"-ERR"):
        raise BrokerUnfit(f"the broker could not restore {stream}: {data.decode(errors='replace')}")
    answer: dict[str, Any] = json.loads(data)
    if "error" in answer:
        raise BrokerUnfit(f"the broker could not restore {stream}: {answer['error'].get('description')}")
    return answer
