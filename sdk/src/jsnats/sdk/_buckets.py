"""Single records of the buckets, read and written with compare-and-set.

nats-py's key-value store lacks the TTL on updates, returns an entry for an expiry marker and cannot create over one;
these functions are all that is needed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jsnats.schemas import BrokerUnfit, headers as h

from ._broker_errors import ApiError, NoResponders
from ._cluster import ELECTION_S
from ._connection import Connection
from ._lasting import RECONNECT_WAIT_S
from ._nats import Msg, parse_headers

LOST_S = 3.0
"""In a cluster, after how long the answer to a write does not count on any more: the leader that had it is dead."""


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record. `body` is empty after a deletion or an expiry, and `end` then what the deletion says of itself;
    `revision` serves compare-and-set."""

    body: bytes
    revision: int
    end: bytes = b""


def record_of(body: bytes, headers: Mapping[str, str] | None, revision: int) -> Record:
    """The record that a stored message is."""
    return Record(b"", revision, body) if is_gone(headers) else Record(body, revision)


async def last_record(connection: Connection, stream: str, subject: str) -> Record | None:
    """Return the newest record on `subject`, None if there never was one. Raises BrokerUnfit, AccessDenied."""
    try:
        message = await connection.read(f"$JS.API.DIRECT.GET.{stream}.{subject}")
    except NoResponders:
        # The bucket is not there, or JetStream is not: the API says which in a sentence.
        raise _unfit(connection) from None
    headers = message.headers or {}
    if headers.get(h.STATUS) == "404":
        return None
    return record_of(message.data, headers, int(headers.get(h.SEQUENCE, "0")))


async def leader_record(connection: Connection, stream: str, subject: str) -> Record | None:
    """As `last_record`, from the stream's leader: in a cluster a direct get may be answered by a server that is behind.

    Only for who administers the streams.
    """
    try:
        answer = await connection.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except ApiError as error:
        if error.code == _NO_MESSAGE:
            return None
        raise
    stored = answer["message"]
    headers = parse_headers(base64.b64decode(stored["hdrs"])) if "hdrs" in stored else None
    return record_of(base64.b64decode(stored.get("data", "")), headers, int(stored["seq"]))


def is_gone(headers: Mapping[str, str] | None) -> bool:
    """Say whether a stored message only marks that a record was deleted or has expired."""
    return headers is not None and (h.MARKER in headers or h.KV_OPERATION in headers)


def _unfit(connection: Connection) -> BrokerUnfit:
    url = connection.context.url
    return BrokerUnfit(f"the broker at {url} carries no lab: no JetStream, or not prepared by `jsnats broker run`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A record to be stored. With `expect`, only if that is its present revision (0: there is none); `ttl_s` 0 is for
    ever; `delete` leaves a marker with the body."""

    subject: str
    body: bytes
    expect: int | None = None
    ttl_s: int = 0
    delete: bool = False

    def headers(self) -> dict[str, str]:
        """The headers that say so."""
        headers: dict[str, str] = {}
        if self.expect is not None:
            headers[h.EXPECTED_SUBJECT_SEQ] = str(self.expect)
        if self.ttl_s:
            headers[h.TTL] = f"{self.ttl_s}s"
        if self.delete:
            headers[h.KV_OPERATION] = "DEL"
        return headers


async def put_record(
    connection: Connection,
    subject: str,
    body: bytes,
    *,
    expect: int | None = None,
    ttl_s: int = 0,
    delete: bool = False,
) -> int:
    """Store a record and return its revision; the options are those of `Write`.

    Raises Conflict when its revision is not the expected one, BrokerUnfit, AccessDenied, ApiError; Disconnected and
    TimeoutError when nobody can say whether it was stored.
    """
    write = Write(subject=subject, body=body, expect=expect, ttl_s=ttl_s, delete=delete)
    return await _send(connection, write, write.headers())


async def put_records(connection: Connection, writes: Sequence[Write]) -> list[int]:
    """Store several records, each of another subject, all or none; return their revisions. Raises as `put_record`.

    An atomic batch (ADR-50): its messages are numbered, the last one commits and its answer is that of all.
    """
    if len(writes) == 1:
        return [await _send(connection, writes[0], writes[0].headers())]
    batch = secrets.token_hex(8)
    last = len(writes)
    for number, write in enumerate(writes[:-1], 1):
        numbered = write.headers() | {h.BATCH: batch, h.BATCH_SEQUENCE: str(number)}
        await connection.publish(write.subject, write.body, headers=numbered)
    commit = writes[-1].headers() | {h.BATCH: batch, h.BATCH_SEQUENCE: str(last), h.BATCH_COMMIT: "1"}
    revision = await _send(connection, writes[-1], commit)
    return list(range(revision - last + 1, revision + 1))


async def _send(connection: Connection, write: Write, headers: dict[str, str]) -> int:
    answer = json.loads((await _submit(connection, write, headers)).data)
    if "error" in answer:
        error = ApiError(answer["error"])
        if error.is_passing or error.code in _BATCH_BROKEN:
            raise TimeoutError(str(error))
        raise Conflict(str(error)) if error.is_conflict else error
    return int(answer["seq"])


async def _submit(connection: Connection, write: Write, headers: dict[str, str]) -> Msg:
    """Send it; in a cluster, while nobody takes it because the stream has no leader, again: nobody has it then."""
    now = asyncio.get_running_loop().time
    end = now() + ELECTION_S
    while True:
        try:
            return await connection.request(
                write.subject, write.body, headers=headers or None, timeout_s=LOST_S if connection.clustered else 5.0
            )
        except NoResponders:
            if not connection.clustered or now() >= end:
                raise _unfit(connection) from None
            if h.BATCH in headers:
                raise TimeoutError("the stream has no leader") from None  # what goes before is lost
            await asyncio.sleep(RECONNECT_WAIT_S)


_NO_MESSAGE = 10037
_BATCH_BROKEN = frozenset({10175, 10176})
"""Some of an atomic batch was lost, with the leader that had it: nothing is stored."""


class Conflict(Exception):
    """Somebody else has written the record first."""
