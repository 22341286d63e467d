"""Records of a bucket as they are now, and what a stream holds and will hold, over restarts of the broker."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import EVENTS, LAB, queue_key
from jsnats.sdk import (
    ApiError,
    Conflict,
    Connection,
    Mirror,
    Write,
    _mirror,
    follow,
    mirrored,
    open_connection,
    put_record,
    put_records,
)

ALL = "$KV.jsnats_lab.>"


@pytest.fixture(scope="module")
def broker() -> TestBroker:
    """A broker that these tests may kill."""
    with running_broker(principals={"scheduler": ["sched"], "user": ["ann"]}) as running:
        yield running  # type: ignore[misc]


@pytest_asyncio.fixture
async def sched(broker: TestBroker) -> AsyncIterator[Connection]:
    """A scheduler's connection."""
    async with await open_connection(broker.context("sched")) as connection:
        yield connection


@pytest_asyncio.fixture
async def ann(broker: TestBroker) -> AsyncIterator[Connection]:
    """A user's connection."""
    async with await open_connection(broker.context("ann")) as connection:
        yield connection


async def until(mirror: Mirror, subject: str, body: bytes) -> None:
    """Wait until the mirror says so."""
    async with asyncio.timeout(10):
        while getattr(mirror.records.get(subject), "body", b"") != body:
            mirror.updated.clear()
            await mirror.updated.wait()


async def test_what_is_there_comes_first(sched: Connection, ann: Connection) -> None:
    """A mirror is complete when it begins, and then follows each change and deletion."""
    there, gone = queue_key("there"), queue_key("gone")
    await put_record(sched, there, b"1")
    revision = await put_record(sched, gone, b"1")
    await put_record(sched, gone, b"why", delete=True)
    async with mirrored(ann, LAB.name, ALL) as mirror:
        assert mirror.get(there) is not None
        assert mirror.get(gone) is None
        assert mirror.records[gone].end == b"why"
        assert mirror.revision(gone) == revision + 1
        assert mirror.revision(queue_key("never")) == 0
        await put_record(sched, there, b"2", expect=mirror.revision(there))
        await until(mirror, there, b"2")


async def test_own_writes_are_applied_at_once(sched: Connection) -> None:
    """What was applied by hand is not undone by an older message that is still on its way."""
    async with mirrored(sched, LAB.name, ALL) as mirror:
        key = queue_key("own")
        first = await put_record(sched, key, b"1")
        second = await put_record(sched, key, b"2", expect=first)
        from jsnats.sdk import Record

        mirror.apply(key, Record(b"2", second))
        mirror.apply(key, Record(b"1", first))
        assert mirror.records[key].body == b"2"


async def test_it_knows_the_time_of_the_broker(ann: Connection) -> None:
    """The clock is the broker's, whatever the own one says; here they are the same."""
    async with mirrored(ann, LAB.name, ALL) as mirror:
        assert abs(mirror.now() - time.time()) < 1.0


async def test_a_slow_answer_makes_no_wrong_clock(broker: TestBroker, ann: Connection) -> None:
    """Whoever had to wait for a broker that was just starting does not believe it to be later than it is."""
    server = int((broker.directory / "nats.pid").read_text())
    os.kill(server, signal.SIGSTOP)
    try:
        asyncio.get_running_loop().call_later(1.5, os.kill, server, signal.SIGCONT)
        async with mirrored(ann, LAB.name, ALL) as mirror:
            assert abs(mirror.now() - time.time()) < 0.5
    finally:
        os.kill(server, signal.SIGCONT)


async def test_a_mirror_outlives_the_broker(broker: TestBroker, sched: Connection, ann: Connection) -> None:
    """After an outage it holds what is there, and what vanished meanwhile is reported as vanished."""
    kept, fleeting = queue_key("kept"), queue_key("fleeting")
    await put_record(sched, kept, b"1")
    vanished = asyncio.Event()

    def changed(subject: str, record: object) -> None:
        if subject == fleeting and not getattr(record, "body", b""):
            vanished.set()

    async with mirrored(ann, LAB.name, ALL, changed) as mirror:
        await put_record(sched, fleeting, b"1", ttl_s=1)
        await until(mirror, fleeting, b"1")
        await asyncio.to_thread(broker.stop)
        await asyncio.sleep(1.1)  # the record's own time to live: nothing can be waited for
        await asyncio.to_thread(broker.start)
        async with asyncio.timeout(10):
            await vanished.wait()
            await mirror.synced.wait()
            await put_record(sched, kept, b"2")
        await until(mirror, kept, b"2")
        assert fleeting not in mirror.records


async def test_a_mirror_outlives_what_the_broker_refuses(
    sched: Connection, ann: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JetStream without a leader for a moment, and a callback that trips over a record: it goes on all the same."""
    subject, ask, refused = queue_key("refused"), ann.api, asyncio.Event()

    async def refuse(*args: Any, **options: Any) -> dict[str, Any]:
        monkeypatch.setattr(ann, "api", ask)
        refused.set()
        raise ApiError({"code": 503, "err_code": 10008, "description": "JetStream system temporarily unavailable"})

    def trip(subject: str, record: object) -> None:
        raise ValueError

    monkeypatch.setattr(_mirror, "REFUSED_S", 0.1)
    async with mirrored(ann, LAB.name, subject, trip) as mirror:
        await put_record(sched, subject, b"1")
        await until(mirror, subject, b"1")
        monkeypatch.setattr(ann, "api", refuse)
        for name in (await sched.api(f"CONSUMER.NAMES.{LAB.name}"))["consumers"]:
            await sched.api(f"CONSUMER.DELETE.{LAB.name}.{name}")
        await refused.wait()
        await put_record(sched, subject, b"2")
        async with asyncio.timeout(5):
            await until(mirror, subject, b"2")


async def test_a_mirror_keeps_one_timer_for_each_record(sched: Connection) -> None:
    """However often a record is renewed, and none when the mirror has ended."""
    subject = queue_key("renewed")
    async with mirrored(sched, LAB.name, subject) as mirror:
        for number in range(5):
            await put_record(sched, subject, b"%d" % number, ttl_s=60)
        await until(mirror, subject, b"4")
        (timer,) = mirror._expiring.values()
    assert timer.cancelled()


async def test_a_batch_is_stored_whole(sched: Connection) -> None:
    """Several records are written together, each with its revision, or none of them when one is not as expected."""
    a, b = queue_key("a"), queue_key("b")
    first, second = await put_records(
        sched, [Write(subject=a, body=b"1", expect=0), Write(subject=b, body=b"1", expect=0)]
    )
    assert second == first + 1
    with pytest.raises(Conflict):
        await put_records(sched, [Write(subject=a, body=b"2", expect=first), Write(subject=b, body=b"2", expect=first)])
    async with mirrored(sched, LAB.name, ALL) as mirror:
        assert (mirror.records[a].body, mirror.records[b].body) == (b"1", b"1")
        assert (mirror.revision(a), mirror.revision(b)) == (first, second)


async def test_a_follower_misses_nothing(broker: TestBroker, sched: Connection, ann: Connection) -> None:
    """A reader gets what is stored and what comes, each message once and in order, over a kill of the broker."""
    for number in range(3):
        await sched.request("jsnats.event.lab.test", str(number).encode())
    found: list[bytes] = []

    async def read() -> None:
        async for each in follow(ann, EVENTS.name, "jsnats.event.lab.test"):
            found.append(each.message.data)
            if len(found) == 600:
                return

    reader = asyncio.ensure_future(read())
    for number in range(3, 300):
        await sched.request("jsnats.event.lab.test", str(number).encode())
    await asyncio.to_thread(broker.kill)
    async with asyncio.timeout(20):
        await sched.wait_connected()
        for number in range(300, 600):
            await sched.read("jsnats.event.lab.test", str(number).encode())
        await reader
    assert [int(each) for each in found] == list(range(600))
