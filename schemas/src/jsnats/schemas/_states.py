"""The two state machines, each one table: that of an exporter, which its agent runs, and that of a lease.

README.md shows the same tables. A step that is not in a table does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from ._errors import ProtocolError

ExporterState = Literal["offline", "available", "preparing", "leased", "ending", "stuck"]
ExporterStep = Literal["start", "resume", "grant", "prepared", "over", "torn down", "hung", "freed", "gone"]
LeaseState = Literal["booked", "waiting", "preparing", "active", "ending", "ended"]
LeaseStep = Literal["due", "granted", "prepared", "over", "torn down", "given up"]

EXPORTER_STATES: Final[Mapping[tuple[ExporterState, ExporterStep], ExporterState]] = {
    ("offline", "start"): "available",
    ("offline", "resume"): "leased",
    ("available", "grant"): "preparing",
    ("preparing", "prepared"): "leased",
    ("preparing", "over"): "ending",
    ("leased", "over"): "ending",
    ("ending", "torn down"): "available",
    ("ending", "hung"): "stuck",
    ("stuck", "freed"): "available",
    ("available", "gone"): "offline",
    ("preparing", "gone"): "offline",
    ("leased", "gone"): "offline",
    ("ending", "gone"): "offline",
    ("stuck", "gone"): "offline",
}
"""Of an exporter. `resume`: an agent that was restarted finds its lease still running."""

LEASE_STATES: Final[Mapping[tuple[LeaseState, LeaseStep], LeaseState]] = {
    ("booked", "due"): "preparing",
    ("booked", "given up"): "ended",
    ("waiting", "granted"): "preparing",
    ("waiting", "given up"): "ended",
    ("preparing", "prepared"): "active",
    ("preparing", "over"): "ending",
    ("active", "over"): "ending",
    ("ending", "torn down"): "ended",
}
"""Of a lease. It is nowhere written down as such: booked, waiting and held are records, the rest says the exporter."""


def exporter_step(state: ExporterState, step: ExporterStep) -> ExporterState:
    """The state after a step. Raises ProtocolError for one that is not in the table."""
    try:
        return EXPORTER_STATES[state, step]
    except KeyError:
        raise ProtocolError(f"an exporter that is {state} cannot take the step {step!r}") from None


def lease_step(state: LeaseState, step: LeaseStep) -> LeaseState:
    """The state after a step. Raises ProtocolError for one that is not in the table."""
    try:
        return LEASE_STATES[state, step]
    except KeyError:
        raise ProtocolError(f"a lease that is {state} cannot take the step {step!r}") from None
