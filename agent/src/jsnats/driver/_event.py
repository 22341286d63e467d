"""An event as it is published, checked where it is made: whoever makes a wrong one hears of it, not a log."""

from __future__ import annotations

from typing import Any

from jsnats.schemas import Event, event_subject

MAX_EVENT = 64 << 10
"""Bytes of one event. It goes to everybody who listens, phones included; a file is for what is larger."""


def packed_event(source: str, type_: str, data: dict[str, Any], path: str) -> tuple[str, bytes]:
    """Return subject and body of an event that happens now. Raises InvalidName for a type that cannot be, TypeError
    for data that cannot travel, ValueError for too much of it."""
    subject = event_subject(source, type_)
    try:
        body = Event(source=source, type=type_, data=data, subject=path).encode()
    except (TypeError, ValueError) as error:
        raise TypeError(f"event {type_!r}: its data cannot travel: {error}") from error
    if len(body) > MAX_EVENT:
        raise ValueError(f"event {type_!r} has {len(body)} bytes, the limit is {MAX_EVENT}: store a file, name it here")
    return subject, body
