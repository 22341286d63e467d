"""Single records of the buckets, read and written with compare-and-set.

nats-py's key-value store lacks the TTL on updates, returns an entry for an expiry marker and cannot create over one;
these two functions are all that is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from jsnats.schemas import BrokerUnfit, headers as h

from ._connection import ApiError, Connection, NoResponders


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record. `body` is empty after a deletion or an expiry; `revision` serves compare-and-set."""

    body: bytes
    revision: int


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
    return Record(b"" if is_gone(headers) else message.data, int(headers.get(h.SEQUENCE, "0")))


def is_gone(headers: Mapping[str, str] | None) -> bool:
    """Say whether a stored message only marks that a record was deleted or has expired."""
    return headers is not None and (h.MARKER in headers or h.KV_OPERATION in headers)


def _unfit(connection: Connection) -> BrokerUnfit:
    url = connection.context.url
    return BrokerUnfit(f"the broker at {url} carries no lab: no JetStream, or not prepared by `jsnats broker run`")


async def put_record(
    connection: Connection,
    subject: str,
    body: bytes,
    *,
    expect: int | None = None,
    ttl_s: int = 0,
    delete: bool = False,
) -> int:
    """Store a record and return its revision. With `expect`, only if that is the present revision (0: none).

    Raises Conflict when it is not, BrokerUnfit, AccessDenied, ApiError; Disconnected and TimeoutError when nobody can
    say whether it was stored.
    """
    headers: dict[str, str] = {}
    if expect is not None:
        headers[h.EXPECTED_SUBJECT_SEQ] = str(expect)
    if ttl_s:
        headers[h.TTL] = f"{ttl_s}s"
    if delete:
        headers[h.KV_OPERATION] = "DEL"
    try:
        message = await connection.request(subject, body, headers=headers or None)
    except NoResponders:
        raise _unfit(connection) from None
    answer = json.loads(message.data)
    if "error" in answer:
        error = ApiError(answer["error"])
        raise Conflict(str(error)) if error.code == _WRONG_LAST_SEQUENCE else error
    return int(answer["seq"])


_WRONG_LAST_SEQUENCE = 10071


class Conflict(Exception):
    """Somebody else has written the record first."""
