"""Fixtures of the end-to-end tests: a broker that may be killed, an agent in its own process, a client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jsnats.agent.testing import AgentProcess
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.sdk import Lab, connect


@pytest.fixture
def broker() -> Iterator[TestBroker]:
    """A broker of this test alone; `bench` is an exporter, `alice` a user."""
    with running_broker(principals={"exporter": ["bench"], "user": ["alice"]}) as broker:
        yield broker


@pytest.fixture
def agent(broker: TestBroker) -> Iterator[AgentProcess]:
    """An agent process that serves `bench`."""
    with AgentProcess("bench", broker.context_path("bench")) as agent:
        assert agent.greeting == "ready"
        yield agent


@pytest.fixture
def lab(broker: TestBroker, agent: AgentProcess) -> Iterator[Lab]:
    """A connection of alice."""
    with connect(context=broker.context("alice")) as lab:
        yield lab


@pytest.fixture
def client(lab: Lab) -> Any:
    """The root client of `bench`."""
    return lab.exporter("bench")
