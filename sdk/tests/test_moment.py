"""Durations and times, as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from jsnats.common.exceptions import ConfigurationError
from jsnats.sdk import moment_of, seconds_of, signed_seconds

NOW = datetime(2026, 1, 31, 12, 0).timestamp()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("30m", 1800),
        ("1h30m", 5400),
        ("1d", 86400),
        ("1.5h", 5400),
        ("90", 90),
        (2.5, 2.5),
        (timedelta(hours=2), 7200),
    ],
)
def test_a_duration_is_text_a_number_or_a_timedelta(said: str | float | timedelta, seconds: float) -> None:
    """All mean seconds."""
    assert seconds_of(said) == seconds


@pytest.mark.parametrize("said", ["soon", "30 m", "-5m", "", "inf", -1.0])
def test_what_is_no_duration_is_refused(said: str | float) -> None:
    """The message shows what to write."""
    with pytest.raises(ConfigurationError, match="30m"):
        seconds_of(said)


def test_a_lease_is_shortened_by_a_minus_sign() -> None:
    """Text, number and timedelta alike."""
    assert [signed_seconds(each) for each in ("-10m", -600, timedelta(minutes=-10), "10m")] == [-600, -600, -600, 600]


def test_a_time_of_day_is_the_next_one() -> None:
    """A date stands for itself, a duration counts from now."""
    assert moment_of("22:30", NOW) == NOW + 10.5 * 3600
    assert moment_of("08:00", NOW) == NOW + 20 * 3600
    assert moment_of("2h", NOW) == NOW + 7200
    assert moment_of("2026-02-01T00:00", NOW) == NOW + 12 * 3600
    with pytest.raises(ConfigurationError, match="22:30"):
        moment_of("tomorrow", NOW)
