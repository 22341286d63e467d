"""What commands show of leases, waits and exporters."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from jsnats.common.exceptions import ConfigurationError, LeaseNotFound
from jsnats.sdk import ExporterInfo, LeaseInfo, Snapshot, WaitInfo
from jsnats.sdk._moment import clock
from jsnats.sdk.cli._lease_find import find_lease
from jsnats.sdk.cli._lease_options import asked_for
from jsnats.sdk.cli._lease_text import lease_row, place_text, remark, state_text, wait_row

NOW = time.time()
WAIT = WaitInfo(
    id="0123456789abcdef",
    user="ann",
    selectors=["board=rpi4", "board=server"],
    position=2,
    start=NOW + 600,
    waits=600.0,
    duration=3600.0,
)
LEASE = LeaseInfo(
    id="fedcba9876543210",
    state="active",
    holder="ann",
    boards=["b1", "b2"],
    begin=NOW,
    end=NOW + 5400,
    remaining=5400.0,
    co_holders=["bob"],
)


def test_a_lease_in_a_table() -> None:
    """With the beginning of its id; a booking with both of its times."""
    until = clock(NOW + 5400)
    assert lease_row(LEASE) == ("fedcba98", "active", "ann,bob", "b1,b2", "1h30m", until, "-")
    assert lease_row(replace(LEASE, state="booked"))[5] == f"{clock(NOW)} - {until}"
    assert lease_row(replace(LEASE, end=0.0, remaining=None))[4:6] == ("-", "-")


def test_a_wait_in_a_table() -> None:
    """With the latest start, if anybody knows one."""
    row = wait_row(WAIT)
    assert row[:6] == ("2", "01234567", "ann", "board=rpi4 and board=server", "1h", "0")
    assert row[6] == f"{clock(NOW + 600)} (in 10m)"
    assert wait_row(replace(WAIT, start=None, waits=None))[6] == "not known"


@pytest.mark.parametrize(
    ("waits", "text"),
    [
        (600.0, f"position 2, it starts at {clock(NOW + 600)} at the latest, in 10m"),
        (0.2, "position 2, it starts as soon as the board is torn down"),
        (None, "position 2, nothing that fits is there: it starts when that comes back"),
    ],
)
def test_who_waits_is_told_his_place(waits: float | None, text: str) -> None:
    """And when it is his turn, at the latest."""
    place = replace(WAIT, waits=waits, start=None if waits is None else NOW + waits)
    assert place_text(place) == f"waiting for board=rpi4 and board=server: {text}"


def test_why_an_exporter_is_as_it_is() -> None:
    """Its reason, since when it is away, until when it is held, and what an admin says."""
    away = ExporterInfo(name="b1", reason="killed", since=NOW, comment="new fan")
    assert remark(away) == f"new fan; killed; since {clock(NOW)}"
    end = time.time() + 3600
    held = ExporterInfo(name="b1", state="leased", holder="ann", end=end)
    assert remark(held) == f"until {clock(end)} (1h)"
    free = ExporterInfo(name="b1", state="available")
    assert remark(free) == "-"
    assert remark(replace(free, booked=NOW, booked_by="bob")) == f"booked by bob from {clock(NOW)}"
    assert state_text(replace(free, disabled=True)) == "disabled"
    assert state_text(replace(held, disabled=True)) == "leased, disabled"


def test_an_id_may_be_abbreviated() -> None:
    """As long as it is one lease."""
    lab = Snapshot(trees={}, presence={}, leases={}, waiting={}, bookings={}, notes={}, now=0.0)
    with pytest.raises(LeaseNotFound, match="'f'"):
        find_lease(lab, "f")


def test_options_that_are_wrong() -> None:
    """Each is refused in one line that names it."""
    given = {"tether_s": 0.0, "duration": None, "priority": None, "wait": None, "no_wait": False, "note": None}
    for wrong, message in (
        ({"priority": "high"}, "--priority takes a whole number"),
        ({"wait": "1h", "no_wait": True}, "one of --wait and --no-wait"),
        ({"duration": "long"}, "is no duration"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            asked_for(["board=rpi4"], **(given | wrong))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="write key=value"):
        asked_for(["board=rpi4,"], **given)  # type: ignore[arg-type]
