"""From when on to read: "10m" ago, a time of day, a date, Unix time."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from jsnats.schemas import ConfigurationError

from ._duration import is_duration, parse_duration

Since = str | float | datetime | timedelta | None
"""`None`: from now on, or all that is stored; "10m", "1h30m", a timedelta or a number below 100 000 000, of seconds: so
long ago; a datetime, a larger number, "2026-01-31T03:14" or "03:14": that time."""

HELP = "a duration (10m), a time (03:14) or a date (2026-01-31T03:14)"
_LONG_AGO = 1e8
_LATEST = 4e9


def moment_of(since: str | float | datetime | timedelta, now: float) -> float:
    """Unix time that is meant, by the clock that says `now`. Raises ConfigurationError.

    Times of day are local; one that is still to come was yesterday's.
    """
    if isinstance(since, timedelta):
        return bounded(now - since.total_seconds())
    if isinstance(since, datetime):
        return bounded(since.timestamp())
    if isinstance(since, str):
        return bounded(_parsed(since.strip(), now))
    return bounded(since if since >= _LONG_AGO else now - since)


def _parsed(text: str, now: float) -> float:
    if is_duration(text):
        return now - parse_duration(text)
    moment = clock_time(text)
    if moment is None:
        raise ConfigurationError(f"{text!r} is no time: write {HELP}")
    return moment


def clock_time(text: str) -> float | None:
    """Unix time of a date, of a time of day, or of Unix time as text; None if it is none of them."""
    if re.fullmatch(r"\d{9,}(?:\.\d+)?", text):
        return float(text)
    if re.fullmatch(r"\d\d?:\d\d(?::\d\d)?", text):
        today = datetime.fromisoformat(f"{datetime.now():%Y-%m-%d}T{text:0>5}")
        return (today if today <= datetime.now() else today - timedelta(days=1)).timestamp()
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def bounded(seconds: float) -> float:
    """What a time in the broker's language can be; all that is stored is younger than that."""
    return min(max(seconds, 0.0), _LATEST)
