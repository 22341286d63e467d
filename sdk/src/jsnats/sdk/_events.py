"""Events of the lab: published, stored, read again."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from jsnats.schemas import EVENTS, ConfigurationError, Event, ProtocolError, check_name, event_subject

from ._broker_errors import ApiError
from ._connection import Connection
from ._stored import Beginning, read_stored

SEEN = 4096
"""Ids that are remembered: an event that comes twice does so soon after the first time."""
_PATTERN = re.compile(r"(?:[a-z0-9_-]+|\*)(?:\.(?:[a-z0-9_-]+|\*))*")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent(Event):
    """An event as the lab has it. `stored` is Unix time in s by the broker's clock, which is one for all exporters;
    `time` is by the clock of whoever published it. `sequence` is its place among all events."""

    stored: float = 0.0
    sequence: int = 0


async def store_event(connection: Connection, event: Event) -> None:
    """Store an event, through an outage of the broker if need be; it may then be stored twice, under the same id.

    Raises InvalidName, AccessDenied, ApiError, BrokerUnreachable.
    """
    answer = json.loads((await connection.read(event_subject(event.source, event.type), event.encode())).data)
    if "error" in answer:
        raise ApiError(answer["error"])


def events_filter(exporter: str = "", kind: str = "") -> str:
    """The subject of the events of an exporter (or `lab`; "": of all) whose type fits `kind`.

    `lease.granted` is one type, `lease` and `lease.*` are all that begin so; a star elsewhere stands for one word.
    Raises ConfigurationError.
    """
    source = check_name(exporter, "exporter name") if exporter and exporter != "lab" else exporter or "*"
    if kind in ("", "*"):
        return f"jsnats.event.{source}.>"
    if not _PATTERN.fullmatch(kind):
        raise ConfigurationError(f"{kind!r} is no type of events: write it like lease.granted or lease.*")
    if "." not in kind:
        kind = f"{kind}.*"
    return f"jsnats.event.{source}.{kind[:-1] + '>' if kind.endswith('.*') else kind}"


async def read_events(
    connection: Connection, subject: str, begin: Beginning, *, following: bool
) -> AsyncGenerator[StoredEvent, None]:
    """Yield events in the order in which they were stored, each once; what is none is left out.

    Raises as `read_stored`.
    """
    seen: OrderedDict[str, None] = OrderedDict()
    async with aclosing(read_stored(connection, EVENTS.name, subject, begin, following=following)) as found:
        async for each in found:
            try:
                event = StoredEvent.decode(each.message.data)
            except ProtocolError:
                continue
            if event.id in seen:
                continue
            seen[event.id] = None
            if len(seen) > SEEN:
                seen.popitem(last=False)
            yield replace(event, stored=each.stored, sequence=each.sequence)
