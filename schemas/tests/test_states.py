"""The two state machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pytest
from hypothesis import given, strategies as st

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


@given(st.data())
def test_wherever_it_went_there_is_a_way_to_the_end(data: st.DataObject) -> None:
    """However an exporter came to its state it can be available again, and a lease can end."""
    for table, begin, goal in (
        (EXPORTER_STATES, "offline", "available"),
        (LEASE_STATES, "waiting", "ended"),
        (LEASE_STATES, "booked", "ended"),
    ):
        machine: Mapping[tuple[Any, Any], Any] = table
        state = begin
        for _ in range(data.draw(st.integers(0, 12))):
            if ways := sorted(step for at, step in machine if at == state):
                state = machine[state, data.draw(st.sampled_from(ways))]
        reached = {state}
        while more := {after for (at, _), after in machine.items() if at in reached} - reached:
            reached |= more
        assert goal in reached


@given(st.lists(st.sampled_from(["prepared", "over", "torn down", "gone", "start", "resume"])))
def test_exporter_and_lease_go_together(steps: list[Any]) -> None:
    """From its grant on a lease is where its exporter is, except for an exporter that is away meanwhile."""
    same = {"preparing": "preparing", "leased": "active", "ending": "ending", "available": "ended"}
    exporter, lease = exporter_step("available", "grant"), lease_step("waiting", "granted")
    for step in steps:
        try:
            exporter = exporter_step(exporter, step)
        except ProtocolError:
            assert (lease, step) not in LEASE_STATES
            continue
        if exporter == "offline":
            break
        lease = lease_step(lease, step)
        assert same[exporter] == lease
