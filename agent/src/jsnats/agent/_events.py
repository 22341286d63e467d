"""What happens at one exporter, told to the lab as events."""

from __future__ import annotations

import logging
from typing import Any

from jsnats.driver import packed_event

from ._outbox import Item, Outbox

log = logging.getLogger("jsnats.agent")

BACKLOG = 4 << 20
"""Bytes of events that wait for the broker."""


def events_of(exporter: str) -> Outbox:
    """The outbox for the events of one exporter."""

    def lost(count: int) -> Item:
        return packed_event(exporter, "exporter.events-lost", {"count": count}, "")

    return Outbox(f"events of {exporter}", BACKLOG, lost)


def tell(outbox: Outbox, exporter: str, type_: str, data: dict[str, Any], path: str = "") -> None:
    """Put an event by, from any thread; never raises and never waits."""
    try:
        outbox.put(*packed_event(exporter, type_, data, path))
    except (TypeError, ValueError):
        log.exception("exporter %s: an event that cannot be stored", exporter)
