"""Events of the lab: published, stored, read again."""

from __future__ import annotations

import json

from jsnats.schemas import Event, event_subject

from ._connection import ApiError, Connection


async def store_event(connection: Connection, event: Event) -> None:
    """Store an event, through an outage of the broker if need be; it may then be stored twice, under the same id.

    Raises InvalidName, AccessDenied, ApiError, BrokerUnreachable.
    """
    answer = json.loads((await connection.read(event_subject(event.source, event.type), event.encode())).data)
    if "error" in answer:
        raise ApiError(answer["error"])
