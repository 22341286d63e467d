"""Three brokers in containers: the profile `cluster` of compose.yaml."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jsnats.schemas import STREAMS
from jsnats.sdk import Context, connect, open_connection

if "JSNATS_STACK" not in os.environ:
    pytest.skip("`make test-stack` runs it", allow_module_level=True)

pytestmark = [
    pytest.mark.timeout(240),
    # A published port of a broker that is down accepts and hangs up; nats-py leaves its end to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster(profile: Any) -> Iterator[Any]:
    """The stack with three brokers, up."""
    with profile("cluster") as stack:
        yield stack


@pytest.fixture(scope="module")
def carol(cluster: Any) -> Context:
    """A user on this host."""
    context: Context = cluster.add("user", "carol")
    return context


async def replicas(admin: Context) -> dict[str, set[str]]:
    """The servers that have all of a stream, by its name; of those of MQTT too."""
    async with await open_connection(admin) as nc:
        names = (await nc.api("STREAM.NAMES"))["streams"]
        clusters = {name: (await nc.api(f"STREAM.INFO.{name}"))["cluster"] for name in names}
    return {
        name: {each["leader"]} | {other["name"] for other in each["replicas"] if other["current"]}
        for name, each in clusters.items()
    }


def test_everything_is_stored_on_three_brokers(cluster: Any) -> None:
    """All services are healthy, and each stream of the lab and of MQTT is on every broker."""
    assert {"broker", "broker-2", "broker-3"} < set(cluster.services())
    admin = cluster.add("admin", "root")
    found = asyncio.run(replicas(admin))
    assert {spec.name for spec in STREAMS} < set(found)
    assert {name: len(servers) for name, servers in found.items()} == dict.fromkeys(found, 3)


def test_the_main_job_from_the_host(carol: Context) -> None:
    """Lease, flash, power, console, readings, release, by the ports of all three."""
    with connect(context=carol) as lab, lab.lease("name=bench-2", wait="30s") as bench:
        bench.dut.storage.flash(b"firmware of the stack")
        bench.dut.power.on()
        bench.dut.serial.expect("login: ", since="boot", timeout=60)
        assert next(iter(bench.dut.power.read())).voltage > 11


def test_a_broker_is_killed_and_comes_back_under_load(
    cluster: Any, carol: Context, soak_as: Any, figure: Callable[[str], None]
) -> None:
    """The one that the agent is at: calls, a stream and a console go on while it is dead and when it is there again;
    nothing is lost, nothing comes twice, and no lease ends."""
    with soak_as(carol, "bench-1") as one, soak_as(carol, "virtual-1") as two:
        victim = cluster.home("exporter bench-1")
        one.goes_on()
        cluster.kill(victim)
        for each in (one, two):
            each.goes_on()
        cluster.start(victim)
        for each in (one, two):
            each.goes_on()
            each.check()
    figure(f"killed         {victim} of three: {one.calls} calls, {one.items} items, {one.said} lines")


def test_nothing_is_left_of_a_cluster(cluster: Any) -> None:
    """`down -v` takes containers, volumes and networks of the profile away."""
    cluster.compose("down", "--volumes")
    assert cluster.left() == ""
