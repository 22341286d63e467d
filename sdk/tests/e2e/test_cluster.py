"""A cluster of three from end to end: a lab that moves there, services that take turns, a server that is left."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from jsnats.agent.testing import AgentProcess
from jsnats.broker import LabDir, ensure_streams
from jsnats.broker._services import admins_of, serving
from jsnats.broker.testing import TEST_STORE, Network, TestCluster, running_cluster
from jsnats.schemas import STREAMS
from jsnats.sdk import connect, open_connection

pytestmark = pytest.mark.timeout(150)

SERVING_S = 20.0


def state_of_streams(cluster: TestCluster, replicas: int | None = None) -> dict[str, tuple[int, int]]:
    """Replicas and messages of each stream, after its definition was brought to so many replicas."""

    async def ask() -> dict[str, tuple[int, int]]:
        async with await open_connection(cluster.context()) as nc:
            if replicas:
                await ensure_streams(nc, TEST_STORE, replicas=replicas)
            infos = {spec.name: await nc.api(f"STREAM.INFO.{spec.name}") for spec in STREAMS}
        return {name: (info["config"]["num_replicas"], info["state"]["messages"]) for name, info in infos.items()}

    return asyncio.run(ask())


def test_streams_on_one_server_move_to_three(tmp_path: Path) -> None:
    """What was stored on one server of a cluster is on all three after `ensure_streams`, and survives the death of the
    one that had it: the tree, an event, a file, what a console said, and a lease goes on."""
    image = os.urandom(3 << 20)
    with running_cluster(tmp_path, services=False) as cluster, start_blocking_portal() as portal:
        cluster.add("user", "ann")
        cluster.add("exporter", "sim")
        assert {number for number, _ in state_of_streams(cluster, 1).values()} == {1}
        services = serving(cluster.context("scheduler"), admins_of(cluster.lab), policy=None)
        with (
            portal.wrap_async_context_manager(services),
            AgentProcess("sim", cluster.context_path("sim"), "jsnats_driver_simboard.driver:SimulatedBoard"),
            connect(context=cluster.context("ann")) as lab,
            lab.lease(exporter="sim") as sim,
        ):
            sim.power.on()
            for _ in sim.serial.watch(since="start"):
                break
            stored = lab.blobs.put(image)
            said = sim.serial.read(since="start")
            events = [event.id for event in lab.events(exporter="sim")]
            before = state_of_streams(cluster)
            home = cluster.leader("JSNATS_BLOBS")
            after = state_of_streams(cluster, 3)
            cluster.settle()
            cluster.kill(home)
            assert {number for number, _ in after.values()} == {3}
            assert all(after[name][1] >= count for name, (_, count) in before.items() if name != "JSNATS_RESULTS")
            assert b"".join(lab.blobs.chunks(stored.sha256)) == image
            assert sim.serial.read(since="start").startswith(said)
            assert [event.id for event in lab.events(exporter="sim")][: len(events)] == events
            assert sim.power.is_on()


@contextmanager
def serve_command(lab: LabDir) -> Iterator[subprocess.Popen[str]]:
    """`jsnats broker serve` in a process of its own."""
    command = [sys.executable, "-m", "jsnats.sdk.cli", "broker", "serve", "--dir", str(lab.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("serving ")
        try:
            yield process
        finally:
            process.kill()


def test_a_store_that_dies_is_replaced(tmp_path: Path) -> None:
    """Of two `jsnats broker serve`, one has the turn; when it is killed, whoever uploads waits for the other."""
    with running_cluster(tmp_path, count=1, services=False) as cluster:
        cluster.add("user", "ann")
        with (
            serve_command(cluster.lab) as first,
            serve_command(cluster.lab),
            connect(context=cluster.context("ann")) as lab,
        ):
            lab.blobs.put(b"one")
            first.kill()
            first.wait()
            begin = time.monotonic()
            lab.blobs.put(b"three")
            assert {each.size for each in lab.blobs.ls()} == {3, 5}
            assert time.monotonic() - begin < SERVING_S


async def test_a_server_that_is_silent_or_cut_off_is_left(tmp_path: Path) -> None:
    """A frozen one also by who has more to write than it takes: nats-py would wait, for ever, until it is written. And
    one that does not see the others, though its clients see it: nobody could be reached through it."""
    with running_cluster(tmp_path, network=Network.possible()) as cluster:
        nc = await open_connection(cluster.context(), name="writer")
        back = asyncio.Event()

        async def tell() -> None:
            back.set()

        nc.on_reconnect.append(tell)
        home = await asyncio.to_thread(cluster.home, "writer")
        cluster.freeze(home)
        for _ in range(64):
            nc.push("jsnats.nobody", bytes(500_000), {})
        async with asyncio.timeout(60):
            await back.wait()
        cluster.thaw(home)
        if cluster.network:
            await asyncio.to_thread(cluster.settle)
            back.clear()
            cluster.cut(await asyncio.to_thread(cluster.home, "writer"), routes_only=True)
            async with asyncio.timeout(60):
                await back.wait()
        assert (await nc.api("STREAM.INFO.KV_jsnats_lab"))["config"]["num_replicas"] == 3
        await nc.close()
