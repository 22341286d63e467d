"""When a lease or a wait is over, with clocks that are set by hand."""

from __future__ import annotations

import pytest

from jsnats.broker._clocks import Heard
from jsnats.broker._lab_state import LabState
from jsnats.broker._over import Over
from jsnats.schemas import LeaseRecord, PresenceRecord, QueueRecord, lease_key, presence_key, queue_key
from jsnats.sdk import Record

START = 1_000_000.0


class Lab:
    """A lab's records and what is over in it; `time` is that of everybody."""

    def __init__(self) -> None:
        self.time = 0.0
        self.revision = 0
        self.state = LabState()
        self.over = Over(self.state, lambda: START + self.time, Heard(lambda: self.time))

    def put(self, subject: str, body: bytes) -> None:
        """A record is written, or deleted."""
        self.revision += 1
        self.state.take(subject, Record(body, self.revision))

    def lease(self, name: str = "a", id_: str = "1", **fields: object) -> None:
        """An exporter is held."""
        self.put(lease_key(name), LeaseRecord(holder="ann", id=id_, epoch=7, **fields).encode())  # type: ignore[arg-type]

    def says(self, name: str, state: str, **fields: object) -> None:
        """What an exporter says of itself."""
        self.put(presence_key(name), PresenceRecord(instance="i", state=state, **fields).encode())  # type: ignore[arg-type]

    def at(self, time: float) -> list[tuple[str, str]]:
        """What is over then."""
        self.time = time
        return [(name, reason) for _, name, reason in self.over.found()]


@pytest.fixture
def lab() -> Lab:
    """One exporter that is there."""
    lab = Lab()
    lab.says("a", "leased")
    lab.says("b", "leased")
    return lab


def test_an_end_by_the_clock(lab: Lab) -> None:
    """A lease is over at its end and not before; one without an end never is."""
    lab.lease("a", end=START + 10)
    lab.lease("b", id_="2")
    assert lab.over.left_s() == pytest.approx(10)
    assert lab.at(9.9) == []
    assert lab.at(10.1) == [("a", "its time is up")]


def test_an_end_that_moves(lab: Lab) -> None:
    """What counts is the record as it is now."""
    lab.lease("a", end=START + 10)
    lab.lease("a", end=START + 20)
    assert lab.at(11) == []
    lab.lease("a", end=START + 12)
    assert lab.at(13) == [("a", "its time is up")]
    lab.put(lease_key("a"), b"")
    assert lab.at(100) == []


def test_what_could_not_be_ended_comes_again(lab: Lab) -> None:
    """Whoever finds a lease over and fails to end it finds it again a second later, not at once."""
    lab.lease("a", end=START + 10)
    assert len(lab.at(10.1)) == 1
    assert lab.at(10.2) == []
    assert len(lab.at(11.2)) == 1


def test_a_tether(lab: Lab) -> None:
    """It runs from the last version that was seen."""
    lab.lease("a", tether=30)
    lab.time = 20
    lab.lease("a", tether=30)
    assert lab.at(49) == []
    assert lab.at(51) == [("a", "ann was not heard of for 30 s")]


def test_a_tether_after_an_outage(lab: Lab) -> None:
    """After an outage everybody has his whole time again, however long it was; those who wait, too."""
    lab.lease("a", tether=30)
    lab.put(queue_key("2"), QueueRecord(user="bob", selectors=[""], duration=1, tether=30).encode())
    lab.time = 600
    lab.over.begin_anew()
    assert lab.at(601) == []
    assert lab.at(629) == []
    assert sorted(lab.at(631)) == [("2", "bob was not heard of for 30 s"), ("a", "ann was not heard of for 30 s")]


def test_a_tether_under_the_next_scheduler(lab: Lab) -> None:
    """What a scheduler finds at its start has its whole time, and no more: holder and waiter may have gone before."""
    lab.lease("a", tether=30)
    lab.put(queue_key("2"), QueueRecord(user="bob", selectors=[""], duration=1, tether=30).encode())
    lab.over = Over(lab.state, lambda: START + lab.time, Heard(lambda: lab.time))
    lab.over.begin_anew()
    assert lab.at(29) == []
    assert sorted(lab.at(31)) == [("2", "bob was not heard of for 30 s"), ("a", "ann was not heard of for 30 s")]


@pytest.mark.parametrize("away", ["a", "b"])
def test_a_tether_while_an_exporter_is_away(lab: Lab, away: str) -> None:
    """While one of the lease's exporters is offline it does not run out; when that is back, it begins anew."""
    for name in ("a", "b"):
        lab.lease(name, tether=30, boards=["a", "b"])
    lab.time = 10
    lab.says(away, "offline")
    for time in range(20, 600, 5):
        assert lab.at(time) == []
    lab.says(away, "leased")
    assert lab.at(600 + 24) == []
    assert [name for name, _ in lab.at(600 + 31)] == ["a", "b"]


def test_an_exporter_that_expires_is_away(lab: Lab) -> None:
    """A presence that is gone counts as offline."""
    lab.lease("a", tether=30)
    lab.state.take(presence_key("a"), Record(b"", 0))
    assert lab.at(100) == []


def test_an_end_at_the_exporter(lab: Lab) -> None:
    """What the exporter has ended is over, for its reason; the end of an older lease says nothing."""
    lab.lease("a")
    lab.says("a", "leased", ended=6, reason="old")
    assert lab.at(1) == []
    lab.says("a", "available", ended=7, reason="the hook failed")
    assert lab.at(1) == [("a", "the hook failed")]


def test_a_wait(lab: Lab) -> None:
    """It is given up at its time."""
    lab.put(queue_key("2"), QueueRecord(user="bob", selectors=[""], duration=1, asked=START, until=START + 60).encode())
    assert lab.at(59) == []
    assert lab.at(61) == [("2", "waited for 60 s in vain")]


def test_thousands_of_renewals_are_looked_at_once(lab: Lab) -> None:
    """Only what falls due is looked at, and what was renewed meanwhile is not over."""
    for number in range(1000):
        lab.says(f"x{number}", "leased")
        lab.lease(f"x{number}", id_=str(number), tether=30)
    lab.time = 20
    for number in range(999):
        lab.lease(f"x{number}", id_=str(number), tether=30)
    assert lab.at(31) == [("x999", "ann was not heard of for 30 s")]


def test_what_is_put_off_for_years_is_kept_once(lab: Lab) -> None:
    """A lease without a tether that is written again and again leaves nothing behind in the agenda."""
    for number in range(1000):
        lab.lease("a", end=START + 1e9 + number)
    assert len(lab.over._agenda._heap) < 100
    assert lab.at(1e9 + 998) == []
    assert lab.at(1e9 + 1000) == [("a", "its time is up")]


def test_what_an_exporter_says_is_cut_short(lab: Lab) -> None:
    """Its reason comes to stand in a marker of the small bucket."""
    lab.lease("a", id_="1")
    lab.says("a", "available", ended=7, reason="x" * 100_000)
    ((_, reason),) = lab.at(1.0)
    assert len(reason) == 500
