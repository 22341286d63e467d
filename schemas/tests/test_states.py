"""The two state machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pytest

from jsnats.schemas import (
    EXPORTER_STATES,
    LEASE_STATES,
    ExporterState,
    ExporterStep,
    LeaseState,
    LeaseStep,
    ProtocolError,
    exporter_step,
    lease_step,
)

MACHINES: list[tuple[Mapping[tuple[Any, Any], Any], Any, Any, str]] = [
    (EXPORTER_STATES, ExporterState, ExporterStep, "offline"),
    (LEASE_STATES, LeaseState, LeaseStep, "waiting"),
]


@pytest.mark.parametrize(("table", "states", "steps", "begin"), MACHINES)
def test_the_table_is_whole(table: Mapping[tuple[Any, Any], Any], states: Any, steps: Any, begin: str) -> None:
    """Every state and step occurs; every state can be reached, and left unless it is the last."""
    assert {state for state, _ in table} | set(table.values()) == set(get_args(states))
    assert {step for _, step in table} == set(get_args(steps))
    reached, frontier = {begin}, {begin}
    while frontier:
        frontier = {after for (state, _), after in table.items() if state in frontier} - reached
        reached |= frontier
    assert set(get_args(states)) - reached <= {"booked"}
    assert set(get_args(states)) - {state for state, _ in table} <= {"ended"}


def test_every_exporter_can_go() -> None:
    """Whatever an exporter is doing, its agent may be killed."""
    for state in set(get_args(ExporterState)) - {"offline"}:
        assert exporter_step(state, "gone") == "offline"


def test_what_is_not_in_the_table() -> None:
    """A step that the table does not have is refused by name."""
    with pytest.raises(ProtocolError, match="available cannot take the step 'over'"):
        exporter_step("available", "over")
    with pytest.raises(ProtocolError, match="ended"):
        lease_step("ended", "granted")
