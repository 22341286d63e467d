"""Events and logs, as programs read them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import ConfigurationError, Event, InvalidName, LogRecord, log_subject
from jsnats.sdk import AsyncLab, Connection, Lab, connect, connect_async, open_connection, put_record, store_event
from jsnats.sdk._events import events_filter
from jsnats.sdk._since import moment_of


@pytest.fixture(scope="module")
def own_broker() -> Iterator[TestBroker]:
    """A broker that these tests may stop, with two exporters and a viewer."""
    with running_broker(principals={"viewer": ["vera"], "exporter": ["bench-1", "bench-2"]}) as broker:
        yield broker


@pytest.fixture
async def bench(own_broker: TestBroker) -> AsyncIterator[Connection]:
    """The connection of exporter `bench-1`."""
    async with await open_connection(own_broker.context("bench-1")) as connection:
        yield connection


@pytest.fixture
async def lab(own_broker: TestBroker) -> AsyncIterator[AsyncLab]:
    """The lab of a viewer: less than that nobody may."""
    async with connect_async(context=own_broker.context("vera")) as lab:
        yield lab


@pytest.fixture
def sync_lab(own_broker: TestBroker) -> Iterator[Lab]:
    """The same, for sync code."""
    with connect(context=own_broker.context("vera")) as lab:
        yield lab


async def tell(bench: Connection, type_: str, count: int = 1, **data: Any) -> list[Event]:
    """Store events with numbers."""
    events = [Event(source="bench-1", type=type_, data={"number": number, **data}) for number in range(count)]
    for event in events:
        await store_event(bench, event)
    return events


@pytest.mark.parametrize(
    ("exporter", "kind", "subject"),
    [
        *[("", "", "jsnats.event.*.>"), ("bench-1", "", "jsnats.event.bench-1.>"), ("lab", "*", "jsnats.event.lab.>")],
        *[("", "lease.granted", "jsnats.event.*.lease.granted"), ("", "lease.*", "jsnats.event.*.lease.>")],
        *[("", "lease", "jsnats.event.*.lease.>"), ("b", "*.finished", "jsnats.event.b.*.finished")],
        ("b", "driver.rail.*", "jsnats.event.b.driver.rail.>"),
    ],
)
def test_the_broker_filters(exporter: str, kind: str, subject: str) -> None:
    """Exporter and type become one subject, so nothing is sent that is not wanted."""
    assert events_filter(exporter, kind) == subject


@pytest.mark.parametrize("kind", ["lease.>", "Lease", "lease..ended", "lease.*x", "a b"])
def test_a_wrong_type_or_name_is_refused(kind: str) -> None:
    """With an example; nothing was sent."""
    with pytest.raises(ConfigurationError, match="write it like lease.granted"):
        events_filter("bench-1", kind)
    with pytest.raises(InvalidName):
        events_filter("bench 1")


def test_moments() -> None:
    """Small numbers are seconds ago, large ones Unix time; durations count from the clock that is given."""
    now = 1_800_000_000.0
    assert moment_of(60, now) == moment_of("1m", now) == moment_of(timedelta(minutes=1), now) == now - 60
    assert moment_of(now, 0) == moment_of("1800000000", 0) == moment_of(datetime.fromtimestamp(now, UTC), 0) == now
    assert moment_of("2026-01-31T03:14", 0) == datetime(2026, 1, 31, 3, 14).timestamp()
    assert moment_of("30000d", now) == moment_of(datetime(1901, 1, 1, tzinfo=UTC), now) == 0
    with pytest.raises(ConfigurationError, match="'yesterday' is no time"):
        moment_of("yesterday", now)


async def test_reads_what_is_stored_once_and_in_order(bench: Connection, lab: AsyncLab) -> None:
    """An event that was stored twice comes once; `stored` is the broker's time, `sequence` grows."""
    events = await tell(bench, "driver.read", 5)
    for event in events[1:3]:
        await store_event(bench, event)
    found = [each async for each in lab.events(type="driver.read")]
    assert [(each.id, each.data, each.source) for each in found] == [(e.id, e.data, "bench-1") for e in events]
    assert [each.sequence for each in found] == sorted({each.sequence for each in found})
    assert all(abs(each.stored - each.time) < 10 for each in found)
    since = found[2].stored
    assert [each.data["number"] async for each in lab.events(exporter="bench-1", type="driver.read", since=since)][
        :3
    ] == [2, 3, 4]
    assert [each async for each in lab.events(exporter="bench-2")] == []


async def test_follows_from_a_moment_on(bench: Connection, lab: AsyncLab) -> None:
    """First what is stored since then, then what comes."""
    await tell(bench, "driver.moment", 2)
    async with aclosing(lab.events(type="driver.moment", since=3600, follow=True)) as events:
        assert [(await anext(events)).data["number"] for _ in range(2)] == [0, 1]
        waiting = asyncio.ensure_future(anext(events))
        await tell(bench, "driver.moment", more=True)
        assert (await waiting).data == {"number": 0, "more": True}


async def test_sync_code_follows_through_an_outage(own_broker: TestBroker, bench: Connection, sync_lab: Lab) -> None:
    """What comes after the call of `events` is seen, nothing is lost, nothing comes twice, over two kills."""
    found: list[int] = []
    await tell(bench, "driver.outage")  # before: not seen
    events = await asyncio.to_thread(sync_lab.events, type="driver.outage", follow=True)

    def read() -> None:
        with closing(events):
            found.extend(event.data["number"] for event in islice(events, 300))

    reader = threading.Thread(target=read)
    for number in range(300):
        event = Event(source="bench-1", type="driver.outage", data={"number": number})
        for _ in range(1 + number % 3 // 2):
            await store_event(bench, event)
        if number == 20:
            reader.start()
        if number in (100, 200):
            await asyncio.to_thread(own_broker.kill)
    await asyncio.to_thread(reader.join)
    assert found == list(range(300))


def test_an_iterator_that_is_left_ends(sync_lab: Lab) -> None:
    """Its reader on the loop is gone; what it raises comes out of it."""
    events = sync_lab.events(since="1h")
    next(events)
    events.close()
    assert list(events) == []
    with pytest.raises(ConfigurationError, match="no time"):
        sync_lab.events(since="soon")


async def test_logs_of_a_driver_and_those_below(bench: Connection, lab: AsyncLab, sync_lab: Lab) -> None:
    """All of an exporter, or of one path; followed as events are."""
    for path in ("", "dut", "dut.power", "dutch"):
        line = LogRecord(time=1.0, level="INFO", path=path, message=f"at {path}")
        await put_record(bench, log_subject("bench-1", path), line.encode() + b"\n" + line.encode())
    everything = [each.path async for each in lab.logs("bench-1")]
    below = await asyncio.to_thread(lambda: [each.path for each in sync_lab.logs("bench-1", path="dut")])
    assert everything == ["", "", "dut", "dut", "dut.power", "dut.power", "dutch", "dutch"]
    assert below == ["dut", "dut", "dut.power", "dut.power"]
    assert [each async for each in lab.logs("bench-2")] == []
    logs = await asyncio.to_thread(sync_lab.logs, "bench-1", follow=True)
    line = LogRecord(time=2.0, level="WARNING", path="dut", message="new")
    await put_record(bench, log_subject("bench-1", "dut"), line.encode())
    assert await asyncio.to_thread(next, logs) == line
    await asyncio.to_thread(logs.close)
