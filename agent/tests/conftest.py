"""Fixtures of the agent's tests: one real broker for all, an exporter of its own for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from jsnats.agent import Exporter, Spec
from jsnats.agent.testing import Bench
from jsnats.broker.testing import TestBroker
from jsnats.common.utils import serve, session_broker
from jsnats.schemas import PRESENCE, LeaseEnd, LeaseRecord, PresenceRecord, lease_key, presence_key
from jsnats.sdk import AsyncLab, Connection, Mirror, connect_async, mirrored, open_connection, put_record


@pytest.fixture(scope="session")
def broker() -> TestBroker:
    """The broker of this session, roles on; `tester` is a user, `bench` an exporter."""
    broker = session_broker()
    broker.add("exporter", "bench")
    broker.add("user", "mallory")
    broker.add("viewer", "watcher")
    return broker


@pytest.fixture
def client() -> Iterator[Any]:
    """A sync client of a fresh Bench."""
    with serve(Bench()) as client:
        yield client


@pytest.fixture
async def exporter(broker: TestBroker) -> AsyncIterator[Exporter]:
    """An exporter `bench` on the test's own loop, hosting a fresh Bench."""
    async with Exporter(Spec(name="bench", root=Bench()), broker.context("bench")) as exporter:
        yield exporter


@pytest.fixture
async def lab(broker: TestBroker) -> AsyncIterator[AsyncLab]:
    """A connection of `tester` on the test's own loop."""
    async with connect_async(context=broker.context("tester")) as lab:
        yield lab


class Leases:
    """Writes lease records, as only a scheduler may, and reads what exporters say of themselves."""

    def __init__(self, connection: Connection, presence: Mirror) -> None:
        self.connection = connection
        self.presence = presence

    async def grant(self, holder: str = "tester", *, for_s: float = 0.0, exporter: str = "bench") -> LeaseRecord:
        """Grant a lease, without an end unless `for_s` says when."""
        end = self.presence.now() + for_s if for_s else 0.0
        return await self.write(LeaseRecord(holder=holder, id="6f2a9d0c11e38b47", end=end), exporter)

    async def write(self, lease: LeaseRecord, exporter: str = "bench") -> LeaseRecord:
        """Store a record."""
        return lease.at(await put_record(self.connection, lease_key(exporter), lease.encode()))

    async def end(self, reason: str = "released", exporter: str = "bench") -> None:
        """Delete the record, with the reason."""
        await put_record(self.connection, lease_key(exporter), LeaseEnd(reason=reason).encode(), delete=True)

    async def clear(self) -> None:
        """Let the next test find a `bench` that nobody has ever held."""
        await put_record(self.connection, lease_key("bench"), b"", delete=True)
        while self.state("bench") in ("preparing", "leased", "ending"):
            self.presence.updated.clear()
            await self.presence.updated.wait()
        if self.state("bench") == "gone":
            await put_record(self.connection, presence_key("bench"), b"", delete=True)

    def state(self, exporter: str) -> str:
        """What an exporter says that it is."""
        found = self.presence.get(presence_key(exporter))
        return PresenceRecord.decode(found.body).state if found else "gone"

    async def until(self, state: str, exporter: str = "bench", **fields: Any) -> PresenceRecord:
        """Wait until an exporter says that it is in a state, and what else is named."""
        wanted = {"state": state, **fields}
        while True:
            self.presence.updated.clear()
            found = self.presence.get(presence_key(exporter))
            record = PresenceRecord.decode(found.body) if found else PresenceRecord(instance="", state="gone")
            if all(getattr(record, name) == value for name, value in wanted.items()):
                return record
            await self.presence.updated.wait()


@asynccontextmanager
async def _leases(broker: TestBroker) -> AsyncIterator[Leases]:
    connection = await open_connection(broker.context())
    async with mirrored(connection, PRESENCE.name, presence_key("*")) as presence:
        leases = Leases(connection, presence)
        yield leases
        await leases.clear()
    await connection.close()


@pytest.fixture
async def leases(broker: TestBroker) -> AsyncIterator[Leases]:
    """Leases of this broker; that of `bench` is gone afterwards."""
    async with _leases(broker) as leases:
        yield leases


@pytest.fixture
def make_leases() -> Callable[[TestBroker], AbstractAsyncContextManager[Leases]]:
    """Leases of a broker of one's own."""
    return _leases
