"""Leases, waits and exporters in words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jsnats.sdk import duration_text as exact

from .._moment import clock

if TYPE_CHECKING:
    from jsnats.sdk import ExporterInfo, LeaseInfo, WaitInfo

SHORT = 8
"""Digits of an id that are shown in a table: commands take the beginning of one."""

MINUTES_S = 600.0
"""From there on seconds are left out."""
LEASE_HEAD = ("ID", "STATE", "HOLDER", "EXPORTERS", "LEFT", "UNTIL", "NOTE")
QUEUE_HEAD = ("POS", "ID", "USER", "WANTS", "FOR", "PRIO", "STARTS", "NOTE")


def duration_text(seconds: float) -> str:
    """`1h30m`, `12m`, `45s`."""
    return exact(round(seconds / 60) * 60 if seconds >= MINUTES_S else round(seconds))


def lease_row(info: LeaseInfo) -> tuple[str, ...]:
    """One line of `jsnats lease ls`."""
    left = "-" if info.remaining is None else duration_text(info.remaining)
    until = clock(info.end) if info.end else "-"
    if info.state == "booked":
        until = f"{clock(info.begin)} - {until}"
    who = ",".join([info.holder, *info.co_holders])
    return info.id[:SHORT] or "-", info.state, who, ",".join(info.boards), left, until, info.note or "-"


def wait_row(info: WaitInfo) -> tuple[str, ...]:
    """One line of `jsnats queue`."""
    return (
        str(info.position),
        info.id[:SHORT],
        info.user,
        " and ".join(info.selectors),
        duration_text(info.duration),
        str(info.priority),
        start_text(info),
        info.note or "-",
    )


def start_text(info: WaitInfo) -> str:
    """When a wait is over at the latest, as far as anybody knows."""
    if info.start is None or info.waits is None:
        return "not known"
    return "now" if info.waits < 1 else f"{clock(info.start)} (in {duration_text(info.waits)})"


def place_text(info: WaitInfo) -> str:
    """What somebody is told who waits."""
    if info.start is None:
        when = "nothing that fits is there: it starts when that comes back"
    elif not info.waits or info.waits < 1:
        when = "it starts as soon as the board is torn down"
    else:
        when = f"it starts at {clock(info.start)} at the latest, in {duration_text(info.waits)}"
    return f"waiting for {' and '.join(info.selectors)}: position {info.position}, {when}"


def state_text(info: ExporterInfo) -> str:
    """What an exporter is doing, and whether an admin took it out."""
    if not info.disabled:
        return info.state
    return "disabled" if info.state == "available" else f"{info.state}, disabled"


def remark(info: ExporterInfo) -> str:
    """Why it is as it is, and what an admin says of it."""
    parts = [info.comment] if info.comment else []
    if info.reason:
        parts.append(info.reason)
    if info.state == "offline" and info.since:
        parts.append(f"since {clock(info.since)}")
    elif info.holder and info.end:
        parts.append(f"until {clock(info.end)} ({duration_text(info.end - time.time())})")
    if info.booked:
        parts.append(f"booked by {info.booked_by} from {clock(info.booked)}")
    return "; ".join(parts) or "-"
