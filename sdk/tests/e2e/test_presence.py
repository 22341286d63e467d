"""What the lab says of an exporter whose agent is killed, frozen, or back again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from jsnats.agent.testing import AgentProcess
from jsnats.broker.testing import TestBroker
from jsnats.schemas import EVENTS, PRESENCE, Event, PresenceRecord, TreeRecord, presence_key, tree_key
from jsnats.sdk import Connection, follow, last_record, open_connection, put_record

pytestmark = pytest.mark.timeout(120)


@pytest_asyncio.fixture
async def alice(broker: TestBroker) -> AsyncIterator[Connection]:
    """A user's connection."""
    async with await open_connection(broker.context("alice"), name="alice") as connection:
        yield connection


async def until(connection: Connection, state: str, exporter: str = "bench") -> tuple[PresenceRecord, float]:
    """Wait until the presence of an exporter says so; return it, and the seconds that took."""
    begin = time.monotonic()
    while True:
        found = await last_record(connection, PRESENCE.name, presence_key(exporter))
        presence = PresenceRecord.decode(found.body) if found and found.body else None
        if presence and presence.state == state:
            return presence, time.monotonic() - begin
        await asyncio.sleep(0.02)


async def test_a_killed_agent_is_offline_within_two_seconds(
    broker: TestBroker, agent: AgentProcess, alice: Connection
) -> None:
    """With reason, time and an event; another agent of that name is there at once."""
    before, _ = await until(alice, "available")
    agent.kill()
    presence, seconds = await until(alice, "offline")
    assert seconds < 2.0
    assert presence.instance == before.instance
    assert presence.reason.startswith("its connection has ended")
    assert presence.since == pytest.approx(time.time(), abs=5)
    async with asyncio.timeout(5):
        async for each in follow(alice, EVENTS.name, "jsnats.event.bench.exporter.offline"):
            event = Event.decode(each.message.data)
            assert event.data == {"reason": presence.reason, "instance": before.instance}
            break
    with await asyncio.to_thread(AgentProcess, "bench", broker.context_path("bench")) as second:
        assert second.greeting == "ready"
        back, _ = await until(alice, "available")
        assert back.instance != before.instance


async def settled(broker: TestBroker, alice: Connection) -> None:
    """A scheduler that has just begun gives everybody the time of one record. Then only it says of an exporter that has
    left a tree and nothing else that it is offline."""
    ghost = await open_connection(broker.add("exporter", "ghost"))
    await put_record(ghost, tree_key("ghost"), TreeRecord(name="ghost", instance="i", nodes=[]).encode())
    await ghost.close()
    await until(alice, "offline", "ghost")


async def test_a_frozen_agent_is_offline_within_its_time_to_live(
    broker: TestBroker, agent: AgentProcess, alice: Connection
) -> None:
    """It is connected and says nothing; when it goes on, it is there again."""
    await until(alice, "available")
    await settled(broker, alice)
    agent.freeze()
    presence, seconds = await until(alice, "offline")
    assert seconds < 13.0
    assert presence.reason == "not heard of for 10 s"
    agent.thaw()
    await until(alice, "available")


async def test_a_broker_that_restarts_puts_nobody_offline(
    broker: TestBroker, agent: AgentProcess, alice: Connection
) -> None:
    """An agent that comes back with the broker was never gone."""
    await until(alice, "available")
    await asyncio.to_thread(broker.kill)
    await alice.wait_connected()
    judged = asyncio.create_task(settled(broker, alice))
    while not judged.done():
        found = await last_record(alice, PRESENCE.name, presence_key("bench"))
        assert found is None or not found.body or PresenceRecord.decode(found.body).state == "available"
        await asyncio.sleep(0.1)
    judged.result()
    await until(alice, "available")
