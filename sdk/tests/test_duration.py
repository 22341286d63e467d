"""Durations, read and written."""

from __future__ import annotations

import pytest

from jsnats.schemas import ConfigurationError
from jsnats.sdk import duration_text, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("0.5s", 0.5), (" 1d12h ", 129600), ("0s", 0)],
)
def test_reads_durations(text: str, seconds: float) -> None:
    """Numbers with units, one after the other, are added up."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "1h 30m", "-5m", "1w", "ten minutes", "1.2.3s"])
def test_refuses_what_is_no_duration(text: str) -> None:
    """Anything else is refused with an example: a bare number might be minutes."""
    with pytest.raises(ConfigurationError, match="like 90s, 10m, 1h30m or 2d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(0, "0s"), (0.25, "0.2s"), (9.96, "10s"), (59.7, "1m"), (90, "1m30s"), (600, "10m"), (3600, "1h")],
        *[(3661, "1h1m"), (5400, "1h30m"), (86400, "1d"), (90061, "1d1h"), (86460, "1d"), (-90, "-1m30s")],
    ],
)
def test_writes_durations(seconds: float, text: str) -> None:
    """Two units at most: more would not be read."""
    assert duration_text(seconds) == text
