"""Events."""

from __future__ import annotations

import json

import pytest

from jsnats.schemas import Event, InvalidName, ProtocolError, event_subject

EVENT = Event(source="bench-1", type="lease.granted", data={"holder": "ann"}, time=1795381600.25, id="ab12")


def test_an_event_on_the_wire() -> None:
    """An event is a CloudEvent 1.0 in structured JSON, as any CloudEvents tool reads it."""
    assert json.loads(EVENT.encode()) == {
        "specversion": "1.0",
        "id": "ab12",
        "source": "/jsnats/bench-1",
        "type": "jsnats.lease.granted",
        "time": "2026-11-22T21:06:40.250+00:00",
        "datacontenttype": "application/json",
        "data": {"holder": "ann"},
    }


def test_round_trip() -> None:
    """An event is what it was after being published and read, its driver included."""
    about = Event(source="bench-1", type="driver.hot", subject="dut.power")
    assert Event.decode(EVENT.encode()) == EVENT
    assert Event.decode(about.encode()).subject == "dut.power"


@pytest.mark.parametrize("body", [b"[]", b"{}", b"x", b'{"id":"1","source":"/jsnats/a","type":"t","time":"noon"}'])
def test_not_an_event(body: bytes) -> None:
    """Anything else is a ProtocolError."""
    with pytest.raises(ProtocolError):
        Event.decode(body)


def test_the_subject_names_source_and_type() -> None:
    """One wildcard reads all of an exporter, another all of a type."""
    assert event_subject("bench-1", "lease.granted") == "jsnats.event.bench-1.lease.granted"


@pytest.mark.parametrize("type_", ["", "Lease", "lease..granted", "lease.*", "a b", ".a", "a." * 300 + "a"])
def test_a_type_that_is_no_subject(type_: str) -> None:
    """A type that would be another subject, or a wildcard, is refused."""
    with pytest.raises(InvalidName):
        event_subject("bench-1", type_)
