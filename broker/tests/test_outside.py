"""Brokers that somebody else runs: their configuration, and the services beside them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from jsnats.broker import LabDir, nats_server_binary
from jsnats.broker._cluster import STORE, free_ports, outside_at
from jsnats.broker._outside import Node, parse_nodes
from jsnats.broker._reload_outside import _reload
from jsnats.broker._services import serving_lab
from jsnats.broker.testing import running_cluster
from jsnats.schemas import AccessDenied, BrokerUnfit, ConfigurationError
from jsnats.sdk import Connection, Disconnected, NoResponders, open_connection


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
    monitor, mqtt, websocket = free_ports(3)
    nodes = tuple(Node("127.0.0.1", port, port + 2000) for port in (14222, 14223, 14224))
    outside = replace(outside_at(tmp_path, nodes), monitor=monitor, mqtt=mqtt, websocket=websocket)
    files = lab.configure_outside(outside, STORE)
    assert [path.name for path in files] == [f"127-0-0-1-{port}.conf" for port in (14222, 14223, 14224)] + [
        "accounts.conf"
    ]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    # A cluster would drop what a server stored that ran alone.
    assert all(f"/cluster/{path.stem}" in path.read_text() for path in files[:3])
    assert "/cluster/" not in replace(outside, nodes=nodes[:1]).files("", ())["127-0-0-1-14222.conf"]
    for path in files[:3]:
        done = subprocess.run([nats_server_binary(), "-t", "-c", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert lab.context("ann").url == "nats://127.0.0.1:14222,nats://127.0.0.1:14223,nats://127.0.0.1:14224"


@pytest.mark.parametrize("count", [1, 3])
async def test_a_lab_beside_servers_of_somebody_else(tmp_path: Path, count: int) -> None:
    """The streams are made, on three servers of a cluster; who is let in later is let in at once, by all of them, and
    who is revoked is out."""
    with running_cluster(tmp_path, count=count) as cluster:
        lab = cluster.lab
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


def test_who_is_let_in_while_no_server_is_there_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That is said in one line, after 2 s, also if no name server answers."""
    lab, answered = LabDir(tmp_path / "lab"), threading.Event()
    lab.init()
    lab.configure_outside(outside_at(tmp_path, (Node("nowhere.invalid"), Node("127.0.0.1", free_ports(1)[0]))), STORE)

    def look_up(*_args: object, **_more: object) -> NoReturn:
        answered.wait(60)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    begin = time.monotonic()
    lab.add("user", "ann")
    assert time.monotonic() - begin < 20
    answered.set()
    assert lab.context("ann").name == "ann"
    assert "stored, but no server answers at" in caplog.text


async def test_a_server_that_was_not_told_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who is revoked is still let in there, if it is only cut off and not dead."""
    with running_cluster(tmp_path) as cluster:
        await asyncio.to_thread(cluster.lab.add, "user", "ann")
        assert not caplog.text
        cluster.kill(1)
        await asyncio.to_thread(cluster.lab.revoke, "ann")
        assert f"stored, but not told to {cluster.servers.nodes[1].name}: it counts from" in caplog.text


async def test_a_reload_that_is_lost_with_the_connection_is_asked_for_again() -> None:
    """Another server took it away: the one that was asked still has to say that it has read its configuration. One that
    nobody hears from is gone, and reads it when it starts."""
    refused = SimpleNamespace(data=b'{"error": {"description": "no"}}')
    answers: list[Any] = [Disconnected("lost"), Disconnected("not yet back"), refused, NoResponders("gone")]

    async def request(*_: Any, **__: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def wait_connected() -> None:
        pass

    nc = cast("Connection", SimpleNamespace(request=request, wait_connected=wait_connected))
    with pytest.raises(BrokerUnfit, match="one refused its new configuration: no"):
        await _reload(nc, {"id": "ONE", "name": "one"})
    await _reload(nc, {"id": "ONE", "name": "one"})
    assert not answers


async def test_a_lab_that_runs_its_own_broker_serves_nobody_elses(tmp_path: Path) -> None:
    """`broker serve` and `broker reload` need the servers that `broker config` names."""
    lab = LabDir(tmp_path / "lab")
    lab.init()
    with pytest.raises(ConfigurationError, match="`jsnats broker config` names them"):
        async with serving_lab(lab):
            pass
    with pytest.raises(ConfigurationError, match="nothing to reload"):
        await asyncio.to_thread(lab.reload_outside)
