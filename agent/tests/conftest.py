"""Fixtures of the agent's tests: one real broker for all, an exporter of its own for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from jsnats.agent import Exporter, Spec
from jsnats.agent.testing import Bench
from jsnats.broker.testing import TestBroker
from jsnats.common.utils import serve, session_broker
from jsnats.sdk import AsyncLab, connect_async


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
