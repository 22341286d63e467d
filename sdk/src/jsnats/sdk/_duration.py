"""How long, and until when: "30m", "1h30m", "22:30", as people write them and as they are shown."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from jsnats.schemas import ConfigurationError

Duration = str | float | timedelta
"""Text as in "1h30m" or "90", a number of seconds, or a timedelta."""

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_TEXT = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")
_PART = re.compile(r"([\d.]+)([dhms])")
_TIME_OF_DAY = re.compile(r"(\d\d?):(\d\d)(?::(\d\d))?")


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
    if _TEXT.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    try:
        return float(text)
    except ValueError:
        return -1.0


def duration_text(seconds: float) -> str:
    """`1 h 30 min`, `12 min`, `45 s`: the two largest units, and nothing finer than a second."""
    left = max(0, round(seconds))
    if left >= 600:
        left = round(left / 60) * 60
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


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
    if _TEXT.fullmatch(text.strip()):
        return now + seconds_of(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ConfigurationError(f"{text!r} is no time: write 22:30, 2026-01-31T08:00 or, from now on, 2h") from None
