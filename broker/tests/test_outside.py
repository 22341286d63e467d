"""Brokers that somebody else runs: their configuration, and the services beside them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from jsnats.broker import LabDir, nats_server_binary
from jsnats.broker._outside import Node, Outside, parse_nodes
from jsnats.broker._services import serving_lab
from jsnats.schemas import SCHEDULER, AccessDenied, BrokerUnreachable, ConfigurationError
from jsnats.sdk import open_connection

STORE = 1_000_000_000


def free_port() -> int:
    """A port of loopback that nobody has right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def outside(folder: Path, *ports: int) -> Outside:
    """One server on this machine for each port."""
    nodes = tuple(Node("127.0.0.1", port, free_port()) for port in ports)
    store = str(folder / "data")
    return Outside(nodes=nodes, listen="127.0.0.1", store=store, max_file=STORE * 5 // 4, password="between-them")


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("nats1", [("nats1", 4222, 6222)]),
        ("a,b,c", [("a", 4222, 6222), ("b", 4222, 6222), ("c", 4222, 6222)]),
        ("a:1, a:2:3, [::1]:4", [("a", 1, 6222), ("a", 2, 3), ("::1", 4, 6222)]),
    ],
)
def test_servers_are_named_by_host_and_ports(text: str, nodes: list[tuple[str, int, int]]) -> None:
    """HOST, HOST:PORT and HOST:PORT:ROUTES, with brackets for IPv6."""
    assert parse_nodes(text) == tuple(Node(*each) for each in nodes)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "'' is no server"),
        ("a,b", "a cluster has 3 or 5 servers"),
        ("a,a,b", "two servers of one name"),
        ("a:0", "no such port"),
        ("a:70000", "no such port"),
        ("nats://a", "is no server"),
        ("[1.2]:3", "is no server"),
        ("[1:2]:3", "At least 3 parts"),
    ],
)
def test_servers_that_cannot_be_are_refused(text: str, told: str) -> None:
    """With a line that says why."""
    with pytest.raises(ConfigurationError, match=told):
        parse_nodes(text)


def test_the_files_are_what_nats_server_takes(tmp_path: Path) -> None:
    """Of a cluster with every listener; only the owner can read them, and the contexts lead to all three."""
    lab = LabDir(tmp_path / "lab")
    lab.add("user", "ann")
    more = {"monitor": free_port(), "mqtt": free_port(), "websocket": free_port()}
    base = outside(tmp_path, 14222, 14223, 14224)
    values = {name: getattr(base, name) for name in base.__dataclass_fields__}
    files = lab.configure_outside(Outside(**values | more), STORE)
    assert [path.name for path in files] == [f"127-0-0-1-{port}.conf" for port in (14222, 14223, 14224)] + [
        "accounts.conf"
    ]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    for path in files[:3]:
        done = subprocess.run([nats_server_binary(), "-t", "-c", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert lab.context("ann").url == "nats://127.0.0.1:14222,nats://127.0.0.1:14223,nats://127.0.0.1:14224"


@contextmanager
def servers(lab: LabDir) -> Iterator[None]:
    """The servers of a lab, as somebody else would run them."""
    known = lab.outside()
    assert known
    binary = nats_server_binary()
    processes = [
        subprocess.Popen([binary, "-c", lab.conf / f"{node.name}.conf"], stderr=subprocess.DEVNULL)
        for node in known.nodes
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@asynccontextmanager
async def served(lab: LabDir) -> AsyncIterator[None]:
    """The servers, and what serves beside them."""
    with servers(lab):
        async with asyncio.timeout(60):
            while True:
                try:
                    async with serving_lab(lab):
                        yield
                        return
                except BrokerUnreachable:
                    await asyncio.sleep(0.05)


@pytest.mark.parametrize("count", [1, 3])
async def test_a_lab_beside_servers_of_somebody_else(tmp_path: Path, count: int) -> None:
    """The streams are made, on three servers of a cluster; who is let in later is let in at once, by all of them, and
    who is revoked is out."""
    lab = LabDir(tmp_path / "lab")
    lab.add(SCHEDULER, "scheduler")
    lab.configure_outside(outside(tmp_path, *(free_port() for _ in range(count))), STORE)
    async with served(lab):
        admin = await open_connection(lab.context("broker"))
        info = await admin.api("STREAM.INFO.KV_jsnats_lab")
        assert info["config"]["num_replicas"] == count
        await asyncio.to_thread(lab.add, "user", "ann")
        for url in lab.context("ann").url.split(","):
            nc = await open_connection(replace(lab.context("ann"), url=url))
            answer = await nc.request("jsnats.lease.ann.nonsense", b"{}")
            assert "the scheduler has no 'nonsense'" in answer.data.decode()
            await nc.close()
        ann = lab.context("ann")
        await asyncio.to_thread(lab.revoke, "ann")
        with pytest.raises(AccessDenied):
            await open_connection(ann)
        await admin.close()


async def test_a_lab_that_runs_its_own_broker_serves_nobody_elses(tmp_path: Path) -> None:
    """`broker serve` and `broker reload` need the servers that `broker config` names."""
    lab = LabDir(tmp_path / "lab")
    lab.init()
    with pytest.raises(ConfigurationError, match="`jsnats broker config` names them"):
        async with serving_lab(lab):
            pass
    with pytest.raises(ConfigurationError, match="nothing to reload"):
        await asyncio.to_thread(lab.reload_outside)
