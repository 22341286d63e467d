"""One broker for the session with somebody in each role, and connections that are closed after the test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from jsnats.broker.testing import TestBroker, running_broker
from jsnats.sdk import Connection, Context, open_connection

LAB = {"user": ("ann", "bob"), "viewer": ("vic",), "exporter": ("rack1", "rack2"), "scheduler": ("sched",)}

Connect = Callable[[Context], Awaitable[Connection]]


@pytest.fixture(scope="session")
def broker() -> Iterator[TestBroker]:
    """A running broker that knows ann, bob, vic, rack1, rack2 and sched."""
    with running_broker(principals=LAB) as running:
        yield running


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens connections, and closes them after the test."""
    opened: list[Connection] = []

    async def make(context: Context) -> Connection:
        opened.append(await open_connection(context, name="test"))
        return opened[-1]

    yield make
    for connection in opened:
        await connection.close()


@pytest.fixture(scope="session")
def old_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nats-server of Debian, which is older than jsnats needs."""
    folder = tmp_path_factory.mktemp("old")
    if not shutil.which("apt-get"):
        pytest.skip("no apt-get here to fetch an old nats-server with")
    fetched = subprocess.run(["apt-get", "download", "nats-server"], cwd=folder, capture_output=True, check=False)
    package = next(folder.glob("nats-server_2.[0-9].*.deb"), None)
    if fetched.returncode or not package:
        pytest.skip("apt-get has no nats-server older than 2.10")
    subprocess.run(["dpkg", "-x", package, folder], check=True, capture_output=True)
    return folder / "usr/sbin/nats-server"
