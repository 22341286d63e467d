"""The scheduler on a real broker. The exporters are played: what an agent would say of itself is written by hand."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import (
    LAB,
    Busy,
    CallError,
    InvalidArgument,
    LeaseEnd,
    LeaseNotFound,
    LeaseRecord,
    NoMatch,
    PresenceRecord,
    TreeRecord,
    admin_subject,
    error_from_wire,
    headers as h,
    lease_key,
    lease_subject,
    presence_key,
    queue_key,
    tree_key,
)
from jsnats.sdk import Connection, Mirror, last_record, mirrored, open_connection, put_record

BOARDS = {"rpi-1": "rpi4", "rpi-2": "rpi4", "jet-1": "jetson"}


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A lab of three exporters and two users."""
    with running_broker() as running:
        for name in ("ann", "bob"):
            running.add("user", name)
        for name in BOARDS:
            running.add("exporter", name)
        yield running


class Lab:
    """The lab as a test plays with it."""

    def __init__(self, broker: TestBroker, admin: Connection, mirror: Mirror) -> None:
        self.broker = broker
        self.admin = admin
        self.mirror = mirror
        self.users: dict[str, Connection] = {}

    async def user(self, name: str) -> Connection:
        """The connection of a user."""
        if name not in self.users:
            self.users[name] = await open_connection(self.broker.context(name), name=name)
        return self.users[name]

    async def ask(self, who: str, verb: str, **fields: Any) -> dict[str, Any]:
        """A request about leases; raises what it is answered."""
        connection = await self.user(who)
        subject = admin_subject(who, verb) if who == "broker" else lease_subject(who, verb)
        answer = await connection.request(subject, json.dumps(fields).encode())
        body = json.loads(answer.data)
        code = (answer.headers or {}).get(h.ERROR_CODE)
        if code:
            raise error_from_wire(int(code), body)
        return dict(body)

    async def wait(self, who: str, *selectors: str, **fields: Any) -> str:
        """Ask for a lease, and return its id."""
        id_ = secrets.token_hex(8)
        wanted = {"duration": 600} | fields
        await self.ask(who, "create", id=id_, selectors=list(selectors or ["board=rpi4"]), **wanted)
        return id_

    async def say(self, name: str, state: str = "available", **fields: Any) -> None:
        """An exporter says what it does; the test's own pace is faster than any time to live."""
        record = PresenceRecord(instance=f"i-{name}", state=state, **fields)
        await put_record(self.admin, presence_key(name), record.encode())

    async def until(self, subject: str, *, there: bool) -> bytes:
        """Wait until there is a record on that subject, or none; return it, or what its marker says."""
        async with asyncio.timeout(10):
            while True:
                found = self.mirror.records.get(subject)
                if bool(found and found.body) == there and (found or not there):
                    return b"" if found is None else found.body or found.end
                self.mirror.updated.clear()
                await self.mirror.updated.wait()

    async def granted(self, id_: str) -> list[str]:
        """Wait until a wait is over; return what was granted."""
        return (await self.gone(id_)).boards

    async def gone(self, id_: str) -> LeaseEnd:
        """Wait until a wait is over; return how."""
        async with asyncio.timeout(10):
            while not (found := self.mirror.records.get(queue_key(id_))) or found.body:
                self.mirror.updated.clear()
                await self.mirror.updated.wait()
        return LeaseEnd.decode(found.end)

    def lease(self, name: str) -> LeaseRecord | None:
        """Who holds an exporter."""
        found = self.mirror.get(lease_key(name))
        return LeaseRecord.decode(found.body).at(found.revision) if found else None

    async def ended(self, name: str) -> LeaseEnd:
        """Wait until nobody holds an exporter; return why."""
        return LeaseEnd.decode(await self.until(lease_key(name), there=False))

    async def settle(self) -> None:
        """Let whatever was decided be written: a request that is answered behind it."""
        await self.ask("broker", "comment", exporter="rpi-1")


@pytest_asyncio.fixture
async def lab(broker: TestBroker) -> AsyncIterator[Lab]:
    """Three exporters that are there and free, and nobody who waits."""
    admin = await open_connection(broker.context(), name="test")
    async with mirrored(admin, LAB.name, "$KV.jsnats_lab.>") as mirror:
        playing = Lab(broker, admin, mirror)
        for subject in [each for each, record in mirror.records.items() if record.body]:
            await put_record(admin, subject, b"", delete=True)
        for name, board in BOARDS.items():
            tree = TreeRecord(name=name, instance=f"i-{name}", nodes=[], labels={"board": board})
            await put_record(admin, tree_key(name), tree.encode())
            await playing.say(name)
        yield playing
    for connection in (admin, *playing.users.values()):
        await connection.close()


async def test_a_lease_from_wait_to_end(lab: Lab) -> None:
    """Who asks waits, is granted what is free, and the epoch is the revision of the grant, whatever is written later."""
    id_ = await lab.wait("ann", "name=rpi-1", tether=30)
    assert await lab.granted(id_) == ["rpi-1"]
    await lab.until(lease_key("rpi-1"), there=True)
    lease = lab.lease("rpi-1")
    assert lease is not None
    assert (lease.holder, lease.id, lease.boards, lease.tether) == ("ann", id_, ["rpi-1"], 30.0)
    assert lease.epoch == lab.mirror.revision(lease_key("rpi-1"))
    assert lease.end == pytest.approx(lab.mirror.now() + 600, abs=5)
    assert (await lab.ask("ann", "renew", id=id_))["state"] == "held"
    await lab.ask("ann", "release", id=id_)
    assert await lab.ended("rpi-1") == LeaseEnd(reason="released", by="ann")
    found = await last_record(lab.admin, LAB.name, lease_key("rpi-1"))
    assert found is not None
    assert found.revision > lease.epoch


async def test_first_come_first_served(lab: Lab) -> None:
    """An exporter goes to the highest priority, and among equals to who came first."""
    first = await lab.wait("ann", "name=jet-1")
    await lab.granted(first)
    waiting = [await lab.wait(who, "name=jet-1", priority=p) for who, p in (("bob", 0), ("ann", 0), ("bob", 5))]
    current = first
    for expected in (waiting[2], waiting[0], waiting[1]):
        await lab.ask("broker", "release", id=current)
        assert await lab.granted(expected) == ["jet-1"]
        await lab.until(lease_key("jet-1"), there=True)
        current = expected


async def test_all_or_nothing(lab: Lab) -> None:
    """Who wants both gets both at once, or waits; what is free is kept for him meanwhile."""
    one = await lab.wait("bob", "name=rpi-1")
    assert await lab.granted(one) == ["rpi-1"]
    both = await lab.wait("ann", "board=rpi4", "board=rpi4")
    late = await lab.wait("bob", "name=rpi-2")
    await lab.settle()
    assert lab.lease("rpi-2") is None
    await lab.ask("bob", "release", id=one)
    assert sorted(await lab.granted(both)) == ["rpi-1", "rpi-2"]
    await lab.ask("ann", "release", id=both)
    assert await lab.ended("rpi-1") == LeaseEnd(reason="released", by="ann")
    assert await lab.granted(late) == ["rpi-2"]


__all__ = ["Busy", "CallError", "InvalidArgument", "LeaseNotFound", "NoMatch", "replace"]
