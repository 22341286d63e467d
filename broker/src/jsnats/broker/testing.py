"""A broker for tests: real nats-server, roles on, a free port, a temporary directory.

It runs in a thread with an event loop of its own, so that one broker serves a whole test session and tests of any
kind: sync, async, and of processes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from jsnats.sdk import Context

from ._cluster import TestCluster, running_cluster
from ._lab_dir import BROKER
from ._run import Broker, run_broker

__all__ = ["TEST_STORE", "TestBroker", "TestCluster", "running_broker", "running_cluster"]

TEST_STORE = 1_000_000_000
"""Bytes reserved for a test broker's streams."""


class TestBroker:
    """A running broker, to be used from any thread that is not its own. Every method blocks until it is done."""

    __test__ = False  # no test class, whatever its name

    def __init__(self, broker: Broker, portal: BlockingPortal) -> None:
        self.inner = broker
        self.url = broker.url
        self.directory = broker.lab.path
        self._portal = portal

    def context(self, name: str = BROKER) -> Context:
        """The context of a principal, by default the admin."""
        return self.inner.context(name)

    def context_path(self, name: str) -> Path:
        """The context file of a principal, for JSNATS_CONTEXT of another process."""
        return self.inner.lab.context_path(name)

    def add(self, role: str, name: str) -> Context:
        """Let a principal in."""
        return self._portal.call(self.inner.add, role, name)

    def revoke(self, name: str) -> None:
        """Lock a principal out."""
        self._portal.call(self.inner.revoke, name)

    def kill(self) -> None:
        """Kill the server; returns when its successor serves."""
        self._portal.call(self.inner.kill)

    def stop(self) -> None:
        """Stop the server until `start`: an outage."""
        self._portal.call(self.inner.process.stop)

    def start(self) -> None:
        """End the outage."""
        self._portal.call(self.inner.process.start)


@contextmanager
def running_broker(directory: Path | None = None, **options: Any) -> Iterator[TestBroker]:
    """Run a broker in `directory`, by default a temporary one. `options` are those of `run_broker`."""
    with tempfile.TemporaryDirectory(prefix="jsnats-", ignore_cleanup_errors=True) as temporary:
        options = {"total_bytes": TEST_STORE} | options
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(run_broker(directory or Path(temporary), **options)) as broker,
        ):
            yield TestBroker(broker, portal)
