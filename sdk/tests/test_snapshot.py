"""What the lab's records say together."""

from __future__ import annotations

import pytest

from jsnats.schemas import BookingRecord, ExporterNote, LeaseRecord, PresenceRecord, QueueRecord
from jsnats.schemas._codec import encode_json
from jsnats.sdk import Record, Snapshot

LEASE = LeaseRecord(holder="ann=40corp", id="a" * 16, begin=1000.0, end=1600.0, boards=["bench-1"], co_holders=["bob"])


def snapshot(presence: PresenceRecord | None = None, **lab: bytes) -> Snapshot:
    """A lab of one exporter, `bench-1`, at time 1200; the keys of `lab` with `_` for the dot."""
    return Snapshot.of(
        {"bench-1": encode_json({"labels": {"board": "rpi4"}, "nodes": [{}, {}], "lease": "required"})},
        {"bench-1": presence.encode()} if presence else {},
        {key.replace("_", ".").replace("bench", "bench-1"): Record(body, 42) for key, body in lab.items()},
        1200.0,
    )


@pytest.mark.parametrize(
    ("presence", "lease", "state"),
    [
        (None, None, "offline"),
        (None, LEASE, "offline"),
        (PresenceRecord(instance="i", state="offline", reason="killed"), LEASE, "offline"),
        (PresenceRecord(instance="i", state="starting"), None, "offline"),
        (PresenceRecord(instance="i"), None, "available"),
        (PresenceRecord(instance="i"), LEASE, "preparing"),
        (PresenceRecord(instance="i", state="leased", epoch=42), LEASE, "leased"),
        (PresenceRecord(instance="i", state="leased", epoch=42), None, "ending"),
        (PresenceRecord(instance="i", ended=42), LEASE, "ending"),
        (PresenceRecord(instance="i", state="stuck", reason="dut.flash"), None, "stuck"),
    ],
)
def test_state_of_an_exporter(presence: PresenceRecord | None, lease: LeaseRecord | None, state: str) -> None:
    """What it says itself, unless the lease record is newer; an offline record is no presence."""
    (info,) = snapshot(presence, **({"lease_bench": lease.encode()} if lease else {})).exporters()
    assert (info.state, info.online) == (state, state != "offline")


def test_an_exporter_shows_its_lease_and_what_is_said_of_it() -> None:
    """Users as people write them; the reason only while there is one."""
    note = ExporterNote(disabled=True, comment="fan is broken", by="admin")
    here = PresenceRecord(instance="i", state="offline", reason="killed", since=1100.0)
    (info,) = snapshot(here, lease_bench=LEASE.encode(), exporter_bench=note.encode()).exporters()
    assert (info.holder, info.lease_id, info.end, info.co_holders) == ("ann@corp", "a" * 16, 1600.0, ["bob"])
    assert (info.disabled, info.comment, info.reason, info.since) == (True, "fan is broken", "killed", 1100.0)
    assert (info.drivers, info.lease, info.free) == (1, "required", False)


def test_only_what_would_be_granted_at_once_is_free() -> None:
    """Not what is held, disabled or away."""
    here = PresenceRecord(instance="i")
    assert [each.free for each in snapshot(here).exporters()] == [True]
    assert [each.free for each in snapshot(here, lease_bench=LEASE.encode()).exporters()] == [False]
    assert [each.free for each in snapshot(here, exporter_bench=ExporterNote(disabled=True).encode()).exporters()] == [
        False
    ]


def test_leases_and_bookings() -> None:
    """Each with what is left of it; the epoch is that of the grant."""
    booking = BookingRecord(user="bob", boards=["bench-1"], begin=2000.0, end=2600.0)
    here = PresenceRecord(instance="i", state="leased", epoch=42)
    held, booked = snapshot(here, lease_bench=LEASE.encode(), booking_b1=booking.encode()).held()
    assert (held.state, held.holder, held.remaining, held.epoch) == ("active", "ann@corp", 400.0, 42)
    assert (booked.id, booked.state, booked.holder, booked.remaining) == ("b1", "booked", "bob", 600.0)


def test_an_exporter_shows_who_has_booked_it() -> None:
    """The first of several."""
    first = BookingRecord(user="bob", boards=["bench-1"], begin=2000.0, end=2600.0)
    later = BookingRecord(user="carl", boards=["bench-1", "bench-2"], begin=3000.0, end=3600.0)
    (info,) = snapshot(PresenceRecord(instance="i"), booking_b1=later.encode(), booking_b2=first.encode()).exporters()
    assert (info.booked, info.booked_by, info.free) == (2000.0, "bob", True)


def test_the_queue_has_positions_and_starts() -> None:
    """The first waits for the lease that is there, the second for the first."""
    first = QueueRecord(user="ann", selectors=["board=rpi4"], duration=300.0, arrival=1)
    second = QueueRecord(user="bob", selectors=["board=rpi4"], duration=300.0, arrival=2)
    here = PresenceRecord(instance="i", state="leased", epoch=42)
    queue = snapshot(here, lease_bench=LEASE.encode(), queue_q2=second.encode(), queue_q1=first.encode()).queue()
    assert [(each.id, each.position, each.start, each.waits) for each in queue] == [
        ("q1", 1, 1600.0, 400.0),
        ("q2", 2, 1900.0, 700.0),
    ]
