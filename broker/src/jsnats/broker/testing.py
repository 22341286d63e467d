"""A broker for tests: real nats-server, roles on, a free port, a temporary directory.

It runs in a thread with an event loop of its own, so that one broker serves a whole test session and tests of any
kind: sync, async, and of processes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from jsnats.sdk import Context

from ._cluster import STORE, TestCluster, free_ports, running_cluster
from ._cluster_network import Network
from ._compose import Stack
from ._container import ContainerProcess
from ._lab_dir import BROKER
from ._linked import LEAFNODES, OutsideServer, TestLink, join, outside_lab, running_link, serving_outside
from ._run import Broker, run_broker

__all__ = [
    "LEAFNODES",
    "TEST_STORE",
    "Network",
    "OutsideServer",
    "Stack",
    "TestBroker",
    "TestCluster",
    "TestLink",
    "free_port",
    "join",
    "outside_lab",
    "running_broker",
    "running_cluster",
    "running_link",
    "serving_outside",
]

TEST_STORE = STORE
"""Bytes reserved for a test broker's streams."""

Principals = Mapping[str, list[str] | tuple[str, ...]]
NOBODY: Principals = MappingProxyType({})


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
def running_broker(
    directory: Path | None = None, *, principals: Principals = NOBODY, image: str | None = None, **options: Any
) -> Iterator[TestBroker]:
    """Run a broker in `directory`, by default a temporary one. `options` are those of `run_broker`.

    `principals` are let in: names by role, as in `{"user": ["ann", "bob"], "exporter": ["bench"]}`.

    With an `image`, or JSNATS_TEST_BROKER_IMAGE, its nats-server is that of the image, run by testcontainers and a
    Docker engine of this host; without, that of the wheel. Tests are the same.
    """
    if image := os.environ.get("JSNATS_TEST_BROKER_IMAGE", "") if image is None else image:
        options |= {"process": partial(ContainerProcess, image=image)}
    with tempfile.TemporaryDirectory(prefix="jsnats-", ignore_cleanup_errors=True) as temporary:
        options = {"total_bytes": TEST_STORE} | options
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(run_broker(directory or Path(temporary), **options)) as broker,
        ):
            running = TestBroker(broker, portal)
            for role, names in principals.items():
                for name in names:
                    running.add(role, name)
            yield running


def free_port(host: str = "127.0.0.1") -> int:
    """A port of this machine that nobody has right now."""
    return free_ports(1, host)[0]
