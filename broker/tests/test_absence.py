"""Exporters that go without a word; they are played, and what the scheduler writes down is read."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
import pytest_asyncio

from jsnats.broker import _absence
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import PRESENCE, PresenceRecord, TreeRecord, presence_key, tree_key
from jsnats.sdk import Connection, Message, Mirror, mirrored, open_connection, put_record


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A lab with an impatient scheduler, where `gone` has left a tree and nothing else."""
    patience = pytest.MonkeyPatch()
    patience.setattr(_absence, "GRACE_S", 0.5)
    with running_broker(principals={"exporter": ["rack1", "rack2", "gone"]}) as running:
        yield running
    patience.undo()


@pytest_asyncio.fixture
async def rack(broker: TestBroker) -> AsyncIterator[Connection]:
    """The connection of an agent, by its name."""
    async with await open_connection(broker.context("rack1"), name="exporter rack1") as connection:
        yield connection


@pytest_asyncio.fixture
async def presence(broker: TestBroker) -> AsyncIterator[Mirror]:
    """What everybody sees."""
    async with (
        await open_connection(broker.context(), name="test") as connection,
        mirrored(connection, PRESENCE.name, "$KV.jsnats_presence.>") as mirror,
    ):
        yield mirror


async def offline(mirror: Mirror, name: str) -> PresenceRecord:
    """Wait until that exporter is offline."""
    async with asyncio.timeout(10):
        while True:
            found = mirror.get(presence_key(name))
            if found and (record := PresenceRecord.decode(found.body)).state == "offline":
                return record
            mirror.updated.clear()
            await mirror.updated.wait()


async def appear(connection: Connection, name: str, instance: str, ttl_s: int = 10) -> None:
    """An agent serves that exporter."""
    await put_record(connection, tree_key(name), TreeRecord(name=name, instance=instance, nodes=[]).encode())
    record = PresenceRecord(instance=instance, state="leased", host="h", epoch=9, ended=7)
    await put_record(connection, presence_key(name), record.encode(), ttl_s=ttl_s)


async def one_that_goes(broker: TestBroker, presence: Mirror) -> None:
    """Another exporter's connection ends, and the lab knows: what was to be said of an earlier one, was."""
    instance = secrets.token_hex(4)
    async with await open_connection(broker.context("rack2"), name="rack2") as speaker:
        await appear(speaker, "rack2", instance, ttl_s=60)
    found = None
    while found is None or found.instance != instance:  # the first may end before the scheduler has heard of it
        agent = await open_connection(broker.context("rack2"), name="exporter rack2")
        await agent.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                found = await offline(presence, "rack2")


async def test_a_presence_that_expires(rack: Connection, presence: Mirror) -> None:
    """It is offline, with what it said last of its leases, and what it did."""
    await appear(rack, "rack1", "one", ttl_s=1)
    record = await offline(presence, "rack1")
    assert (record.instance, record.reason, record.epoch, record.ended) == ("one", "not heard of for 10 s", 9, 7)
    assert record.before == "leased"


async def test_a_connection_that_ends(broker: TestBroker, presence: Mirror) -> None:
    """When nobody answers for the instance it is offline, long before it expires; with an answer it is not."""
    async with await open_connection(broker.context("rack1"), name="the same agent, otherwise connected") as alive:
        probed = asyncio.Event()

        async def answer(message: Message) -> None:
            probed.set()
            await alive.publish(message.reply, b"{}")

        await alive.subscribe("$SRV.PING.jsnats-exporter.two", answer)
        await appear(alive, "rack1", "two", ttl_s=60)
        agent = await open_connection(broker.context("rack1"), name="exporter rack1")
        await agent.close()
        async with asyncio.timeout(5):
            await probed.wait()
        await one_that_goes(broker, presence)
        found = presence.get(presence_key("rack1"))
        assert found is not None
        assert PresenceRecord.decode(found.body).state == "leased"
    agent = await open_connection(broker.context("rack1"), name="exporter rack1")
    await agent.close()
    record = await offline(presence, "rack1")
    assert (record.instance, record.reason) == ("two", "its connection has ended: Client Closed")


async def test_who_went_while_nobody_looked(broker: TestBroker, presence: Mirror) -> None:
    """A tree without any presence is of an exporter that went while no scheduler was there."""
    async with await open_connection(broker.context("gone"), name="gone") as agent:
        await put_record(agent, tree_key("gone"), TreeRecord(name="gone", instance="i", nodes=[]).encode())
    record = await offline(presence, "gone")
    assert (record.instance, record.reason) == ("i", "not heard of for 10 s")


async def test_who_stops_in_order_is_no_case(broker: TestBroker, presence: Mirror) -> None:
    """A presence that its agent has deleted is left alone."""
    async with await open_connection(broker.context("rack1"), name="exporter rack1") as agent:
        await appear(agent, "rack1", "three")
        await put_record(agent, presence_key("rack1"), b"", delete=True)
    await one_that_goes(broker, presence)
    assert presence.get(presence_key("rack1")) is None
    assert presence.revision(presence_key("rack1"))
