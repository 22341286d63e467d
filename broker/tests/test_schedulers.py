"""Several schedulers at once, over the death of one and a restart of the broker; the exporters are played."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from jsnats.broker import serving_scheduler
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import (
    LAB,
    BrokerError,
    LeaseEnd,
    LeaseRecord,
    PresenceRecord,
    QueueRecord,
    TreeRecord,
    headers as h,
    lease_key,
    lease_subject,
    presence_key,
    queue_key,
    tree_key,
)
from jsnats.sdk import Connection, Mirror, Record, mirrored, open_connection, put_record

BOARDS = [f"rpi-{number}" for number in range(4)]
CLIENTS = 80


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A lab whose broker these tests may kill."""
    with running_broker(principals={"user": ["ann"], "scheduler": ["second"]}) as running:
        yield running


@dataclass
class Board:
    """An exporter that does at once what an agent would: it is leased, and available again."""

    admin: Connection
    name: str
    holder: str = ""
    served: list[tuple[int, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seen: asyncio.Queue[LeaseRecord | None] = field(default_factory=asyncio.Queue)

    def take(self, record: Record) -> None:
        """The lease record has changed."""
        self.seen.put_nowait(LeaseRecord.decode(record.body).at(record.revision) if record.body else None)

    async def run(self) -> None:
        """Serve lease after lease."""
        await self._say("available", 0, 0)
        epoch = 0
        while True:
            lease = await self.seen.get()
            if lease is None and self.holder:
                self.holder = ""
                await self._say("available", 0, epoch)
            elif lease and lease.id != self.holder:
                if self.holder:
                    self.faults.append(f"{self.name}: {lease.id} while {self.holder} holds it")
                self.holder, epoch = lease.id, lease.epoch
                self.served.append((epoch, lease.id))
                await self._say("leased", epoch, 0)

    async def _say(self, state: str, epoch: int, ended: int) -> None:
        record = PresenceRecord(instance=f"i-{self.name}", state=state, epoch=epoch, ended=ended)
        await self.admin.read(presence_key(self.name), record.encode())


@asynccontextmanager
async def boards(broker: TestBroker) -> AsyncIterator[tuple[Mirror, list[Board]]]:
    """Exporters that play, and the lab's records."""
    admin = await open_connection(broker.context(), name="boards")
    playing = {lease_key(name): Board(admin, name) for name in BOARDS}

    def changed(subject: str, record: Record) -> None:
        if subject in playing:
            playing[subject].take(record)

    for name in BOARDS:
        tree = TreeRecord(name=name, instance=f"i-{name}", nodes=[], labels={"board": "rpi4"})
        await put_record(admin, tree_key(name), tree.encode())
    async with mirrored(admin, LAB.name, "$KV.jsnats_lab.>", changed) as mirror:
        for each in playing.values():
            admin.spawn(each.run())
        yield mirror, list(playing.values())
    await admin.close()


async def ask(connection: Connection, verb: str, **fields: Any) -> dict[str, Any]:
    """A request, sent again until it is answered."""
    while True:
        try:
            body = json.dumps(fields).encode()
            answer = await connection.request(lease_subject("ann", verb), body, timeout_s=2.0)
        except (BrokerError, TimeoutError):
            await connection.wait_connected()
            await asyncio.sleep(0.05)
            continue
        assert h.ERROR_CODE not in (answer.headers or {}), answer.data
        return dict(json.loads(answer.data))


async def client(connection: Connection, mirror: Mirror, priority: int = 0, *, dies: bool = False) -> QueueRecord:
    """Waits, has an exporter for a moment, and gives it back, or dies without a word. Returns who came when."""
    id_ = secrets.token_hex(8)
    fields = {"selectors": ["board=rpi4"], "duration": 600, "priority": priority, "note": id_, "tether": 5 * dies}
    await ask(connection, "create", id=id_, **fields)
    alive = asyncio.ensure_future(renew(connection, id_)) if dies else None
    wanted: QueueRecord | None = None
    while not (record := mirror.records.get(queue_key(id_))) or record.body:
        if record:
            wanted = QueueRecord.decode(record.body).at(record.revision)
        mirror.updated.clear()
        await mirror.updated.wait()
    assert LeaseEnd.decode(record.end).boards, LeaseEnd.decode(record.end)
    if alive:
        alive.cancel()
    else:
        await asyncio.sleep(random.random() * 0.02)  # work
        await ask(connection, "release", id=id_)
    return wanted or QueueRecord(user="ann", selectors=[], duration=1, note=id_)


async def renew(connection: Connection, id_: str) -> None:
    """Stay alive."""
    while True:
        await asyncio.sleep(0.5)
        await ask(connection, "renew", id=id_)


def second_scheduler(broker: TestBroker) -> subprocess.Popen[str]:
    """`jsnats scheduler run`, when it has begun."""
    command = [sys.executable, "-m", "jsnats.sdk.cli", "scheduler", "run", "--context"]
    process = subprocess.Popen([*command, broker.context_path("second")], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline().startswith("scheduler  second at nats://")
    return process


async def test_two_schedulers_one_killed_and_the_broker_too(broker: TestBroker) -> None:
    """Never two holders, nobody forgotten, whoever dies: holders, one of two schedulers, the broker in between."""
    second = await asyncio.to_thread(second_scheduler, broker)
    ann = await open_connection(broker.context("ann"), name="ann")
    try:
        async with boards(broker) as (mirror, playing):
            clients = asyncio.gather(*(client(ann, mirror, dies=number % 8 == 0) for number in range(CLIENTS)))

            async def served(count: int) -> None:
                while sum(len(each.served) for each in playing) < count:
                    mirror.updated.clear()
                    await mirror.updated.wait()

            await served(CLIENTS // 4)
            second.kill()
            await served(CLIENTS // 2)
            await asyncio.to_thread(broker.kill)
            async with asyncio.timeout(40):
                ids = {each.note for each in await clients}
            faults = [fault for each in playing for fault in each.faults]
            granted = [id_ for each in playing for _, id_ in each.served]
            assert faults == []
            assert sorted(granted) == sorted(ids)
    finally:
        second.kill()
        await asyncio.to_thread(second.communicate)
        await ann.close()


async def test_order(broker: TestBroker) -> None:
    """With two schedulers, too, the order is priority and then arrival."""
    second = await asyncio.to_thread(second_scheduler, broker)
    ann = await open_connection(broker.context("ann"), name="ann")
    try:
        async with boards(broker) as (mirror, playing):
            blocker = await asyncio.gather(*(hold(ann, mirror) for _ in BOARDS))
            before = sum(len(each.served) for each in playing)
            clients = [asyncio.ensure_future(client(ann, mirror, number % 3)) for number in range(30)]
            while sum(1 for subject, each in mirror.records.items() if "queue" in subject and each.body) < 30:
                mirror.updated.clear()
                await mirror.updated.wait()
            for id_ in blocker:
                await ask(ann, "release", id=id_)
            async with asyncio.timeout(30):
                waited = {each.note: (-each.priority, each.arrival) for each in await asyncio.gather(*clients)}
            granted = sorted(grant for each in playing for grant in each.served)[before:]
            assert [id_ for _, id_ in granted] == sorted(waited, key=waited.__getitem__)
    finally:
        second.terminate()
        await asyncio.to_thread(second.communicate)
        await ann.close()
    assert second.returncode == 0


async def test_one_of_many_bookings(broker: TestBroker) -> None:
    """However many ask two schedulers for the same time at once, one has it, and the others are told so."""
    ann = await open_connection(broker.context("ann"), name="ann")
    async with boards(broker) as (mirror, _), serving_scheduler(broker.context("second")):
        fields = {"selectors": ["name=rpi-0"], "begin": mirror.now() + 1000, "duration": 60}
        asked = [
            ann.request(
                lease_subject("ann", "create"), json.dumps({"id": secrets.token_hex(8)} | fields).encode(), timeout_s=20
            )
            for _ in range(12)
        ]
        answers = [json.loads(each.data) for each in await asyncio.gather(*asked)]
        booked = [each["id"] for each in answers if each.get("state") == "booked"]
        assert len(booked) == 1
        assert {each["type"] for each in answers if "type" in each} == {"Busy"}
        await ask(ann, "release", id=booked[0])
    await ann.close()


async def hold(connection: Connection, mirror: Mirror) -> str:
    """Take an exporter."""
    id_ = secrets.token_hex(8)
    await ask(connection, "create", id=id_, selectors=["board=rpi4"], duration=600)
    while not (record := mirror.records.get(queue_key(id_))) or record.body:
        mirror.updated.clear()
        await mirror.updated.wait()
    return id_
