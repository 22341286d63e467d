"""Durations and moments as people give them to calls and commands, and read them: "30m", a timedelta, "22:30"."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from jsnats.schemas import ConfigurationError

from ._duration import is_duration, parse_duration

Duration = str | float | timedelta
"""Text as in "1h30m" or "90", a number of seconds, or a timedelta."""

_TIME_OF_DAY = re.compile(r"(\d\d?):(\d\d)(?::(\d\d))?")


def clock(moment: float) -> str:
    """Local time of day; with the date if that is another day."""
    then = datetime.fromtimestamp(moment)
    return f"{then:%H:%M}" if then.date() == datetime.now().date() else f"{then:%Y-%m-%d %H:%M}"


def seconds_of(duration: Duration) -> float:
    """A duration in seconds. Raises ConfigurationError for what is none, or negative."""
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, str):
        seconds = _parsed(duration.strip())
    else:
        seconds = float(duration)
    if not 0 <= seconds < float("inf"):
        raise ConfigurationError(f"{duration!r} is no duration: write 90s, 30m, 1h30m, 2d")
    return seconds


def signed_seconds(duration: Duration) -> float:
    """As `seconds_of`, negative after a minus sign."""
    if isinstance(duration, str):
        text = duration.strip()
        return -seconds_of(text[1:]) if text.startswith("-") else seconds_of(text)
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    return -seconds_of(-seconds) if seconds < 0 else seconds_of(seconds)


def _parsed(text: str) -> float:
    if is_duration(text):
        return parse_duration(text)
    try:
        return float(text)
    except ValueError:
        return -1.0


def moment_of(text: str, now: float) -> float:
    """Unix time of a date with time, of the next such time of day (local), or so long after `now`.

    Raises ConfigurationError.
    """
    if found := _TIME_OF_DAY.fullmatch(text.strip()):
        today = datetime.fromtimestamp(now)
        hour, minute, second = (int(part or 0) for part in found.groups())
        if hour > 23 or minute > 59 or second > 59:
            raise ConfigurationError(f"{text!r} is no time of day")
        moment = today.replace(hour=hour, minute=minute, second=second, microsecond=0)
        return (moment if moment.timestamp() > now else moment + timedelta(days=1)).timestamp()
    if is_duration(text.strip()):
        return now + seconds_of(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ConfigurationError(f"{text!r} is no time: write 22:30, 2026-01-31T08:00 or, from now on, 2h") from None
