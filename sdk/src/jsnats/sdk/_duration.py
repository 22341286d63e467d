"""Durations as people write them: `90s`, `10m`, `1h30m`, `2d`."""

from __future__ import annotations

import re

from jsnats.schemas import ConfigurationError

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")
_PART = re.compile(r"([\d.]+)([dhms])")


def is_duration(text: str) -> bool:
    """Say whether `parse_duration` takes that text."""
    return _DURATION.fullmatch(text) is not None


def parse_duration(text: str) -> float:
    """Return the seconds. Raises ConfigurationError for what is no duration: a number needs its unit."""
    if not is_duration(text.strip()):
        raise ConfigurationError(f"{text!r} is no duration: write it like 90s, 10m, 1h30m or 2d")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def duration_text(seconds: float) -> str:
    """`1h30m`; the two largest units that say anything, and fractions only below 10 s."""
    if seconds < 0:
        return f"-{duration_text(-seconds)}"
    if seconds < 9.95:
        return f"{round(seconds, 1):g}s"
    left, parts = round(seconds), []
    for unit, size in _UNITS.items():
        count, left = divmod(left, int(size))
        parts.append(f"{count}{unit}" if count else "")
    first = next(index for index, part in enumerate(parts) if part)
    return "".join(parts[first : first + 2])
