"""A broker for tests: real nats-server, roles on, a free port, a temporary directory.

It runs in a thread with an event loop of its own, so that one broker serves a whole test session and tests of any
kind: sync, async, and of processes.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from jsnats.schemas import SCHEDULER
from jsnats.sdk import Context

from ._cluster import TestCluster, free_ports, running_cluster, serving_patiently
from ._compose import Stack
from ._container import ContainerProcess
from ._lab_dir import BROKER, LabDir
from ._outside import Node, Outside
from ._run import Broker, run_broker
from ._serve_scheduler import SCHEDULER_NAME
from ._server import nats_server_binary

__all__ = [
    "TEST_STORE",
    "OutsideServer",
    "Stack",
    "TestBroker",
    "TestCluster",
    "free_port",
    "outside_lab",
    "running_broker",
    "running_cluster",
    "serving_outside",
]

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
def running_broker(directory: Path | None = None, *, image: str | None = None, **options: Any) -> Iterator[TestBroker]:
    """Run a broker in `directory`, by default a temporary one. `options` are those of `run_broker`.

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
            yield TestBroker(broker, portal)


def free_port(host: str = "127.0.0.1") -> int:
    """A port of this machine that nobody has right now."""
    return free_ports(1, host)[0]


class OutsideServer:
    """The only server of a lab, as somebody else would run it: `prefix` is a command that runs it elsewhere."""

    def __init__(self, lab: LabDir, *prefix: str, log: Path | None = None) -> None:
        outside = lab.outside()
        assert outside
        self.lab = lab
        conf = lab.conf / f"{outside.nodes[0].name}.conf"
        self._command = [*prefix, str(nats_server_binary()), "-c", str(conf), *(("-l", str(log)) if log else ())]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, without waiting for it to answer."""
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process:
            self._process.kill()
            self._process.wait()


def outside_lab(folder: Path, host: str = "127.0.0.1", **more: Any) -> LabDir:
    """A lab in `folder` with one server on free ports of `host`, configured and not started."""
    lab = LabDir(folder / "lab")
    lab.add(SCHEDULER, SCHEDULER_NAME)
    store = str(folder / "data")
    nodes = (Node(host, free_port(), free_port()),)
    outside = Outside(nodes=nodes, listen=host, store=store, max_file=TEST_STORE * 2, **more)
    lab.configure_outside(outside, TEST_STORE)
    return lab


@contextmanager
def serving_outside(lab: LabDir) -> Iterator[OutsideServer]:
    """The server of such a lab, and what serves beside it, in a thread."""
    server = OutsideServer(lab)
    server.start()
    try:
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving_patiently(lab)):
            yield server
    finally:
        server.kill()
