"""Which files make room for others: pure, so that the rules are tested without a clock or a broker."""

from __future__ import annotations

from collections.abc import Iterable

from ._shelf import Entry

HOUR = 3600.0
DAY = 24 * HOUR

UNUSED_S = 30 * DAY
"""A file that nobody has used for so long is dropped."""
GIVEN_UP_S = DAY
"""So are the chunks of an upload that was not finished."""
SAFE_S = HOUR
"""What was used so short a time ago is never dropped to make room."""


def expired(entries: Iterable[Entry], now: float) -> list[Entry]:
    """The files whose time is over."""
    return [each for each in entries if now - each.used > (UNUSED_S if each.stored else GIVEN_UP_S)]


def victims(entries: Iterable[Entry], needed: int, now: float) -> list[Entry]:
    """The files that make room for `needed` bytes, least recently used first; [] when that is not possible."""
    if needed <= 0:
        return []
    chosen: list[Entry] = []
    for entry in sorted((each for each in entries if now - each.used > SAFE_S), key=lambda each: each.used):
        chosen.append(entry)
        needed -= entry.cost
        if needed <= 0:
            return chosen
    return []
