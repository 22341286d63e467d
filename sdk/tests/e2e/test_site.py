"""A site behind a link: it works alone, its hub sees all of it again afterwards, and neither acts as the other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jsnats.agent._dispatch import CALLER_GONE_S
from jsnats.agent.testing import AgentProcess
from jsnats.broker import LabDir
from jsnats.broker._restore_lab import restore_lab
from jsnats.broker.testing import (
    LEAFNODES,
    TEST_STORE,
    Network,
    OutsideServer,
    TestLink,
    join,
    outside_lab,
    running_cluster,
    running_link,
    serving_outside,
)
from jsnats.common.exceptions import AccessDenied
from jsnats.schemas import ConfigurationError
from jsnats.sdk import ApiError, Connection, Context, Lab, NoResponders, connect, open_connection
from jsnats.testing import until

CATCH_UP_S = 150.0
"""nats-server begins to make up for what a mirror has missed 10 to 40 s after the link is back, longer at worst."""

until_seen = partial(until, timeout_s=50.0, despite=(ApiError, IndexError, ConnectionError, TimeoutError))
"""Brokers may be away meanwhile."""


@pytest.fixture(scope="module")
def link() -> Iterator[TestLink]:
    """`hal` is a user of the hub, `ann` visits the site from there, `bob` is a user of the site with its `bench`."""
    with running_link() as link:
        link.hub.add("user", "hal")
        link.hub.add("user", "ann", site="berlin")
        link.site.add("user", "bob")
        link.site.add("exporter", "bench")
        with AgentProcess("bench", link.site.context_path("bench")):
            yield link


@pytest.fixture
def bob(link: TestLink) -> Iterator[Lab]:
    """At the site."""
    with connect(context=link.site.context("bob")) as lab:
        yield lab


@pytest.fixture
def ann(link: TestLink) -> Iterator[Lab]:
    """At the hub, looking at the site."""
    with connect(context=link.hub.context("ann", site="berlin")) as lab:
        until_seen(lambda: lab.exporters()[0].state == "available")
        yield lab


def history(lab: Lab) -> list[tuple[str, str, int, float]]:
    """Every event of the exporter, with its place and time."""
    return [(each.id, each.type, each.sequence, each.stored) for each in lab.events(exporter="bench")]


def same_history(ann: Lab, bob: Lab) -> bool:
    """The hub and the site tell the same, and each event once."""
    seen, real = history(ann), history(bob)
    assert len({each[0] for each in real}) == len(real)
    return seen == real


def test_a_visitor_works_at_the_site(link: TestLink, ann: Lab, bob: Lab, tmp_path: Path) -> None:
    """By his connection to the hub: a lease of the site's scheduler, calls, a stream, a file; all under `ann@hub`."""
    with ann.lease("name=bench", duration="1m") as bench:
        assert bob.exporters()[0].holder == "ann@hub"
        assert bench.sync_ping(5) == 5
        assert list(bench.sync_count(5000)) == list(range(5000))
    image = tmp_path / "image"
    image.write_bytes(b"x" * 700_000)
    assert ann.blobs.put(image).owner == "ann@hub"
    until_seen(lambda: [each.data["holder"] for each in ann.events(type="lease.ended")] == ["ann@hub"])
    until_seen(lambda: same_history(ann, bob))


def test_the_site_owns_its_leases(ann: Lab, bob: Lab) -> None:
    """Who waits at the hub is behind who holds at the site, and is served when that ends."""

    def wait_and_ping() -> Any:
        with ann.lease("name=bench", duration="1m") as bench:
            return bench.sync_ping(1)

    with ThreadPoolExecutor() as pool:
        with bob.lease("name=bench", duration="1m"):
            until_seen(lambda: ann.exporters()[0].holder == "bob")
            waiting = pool.submit(wait_and_ping)
            until_seen(lambda: [each.user for each in bob.queue()] == ["ann@hub"])
        assert waiting.result(50) == 1


async def test_nobody_is_somebody_else_across_the_link(link: TestLink) -> None:
    """A visitor cannot call as a user of the site, a user of the hub reaches nothing of the site's, the site's very
    admin reaches nothing of the hub's lab, and the credential of the link is good for the link only."""
    ann = await open_connection(link.hub.context("ann", site="berlin"))
    with pytest.raises(AccessDenied):
        await ann.request("jsnats.call.bench.bob.sync_ping", b"[1]")
    with pytest.raises(AccessDenied):
        await ann.request("jsnats.admin.ann=40hub.release", b"{}")
    hal = await open_connection(link.hub.context("hal"))
    with pytest.raises(NoResponders):
        await hal.request("jsnats.call.bench.hal.sync_ping", b"[1]")
    await refused_at_the_hub(link)
    seed = link.site.leaf()
    assert seed
    with pytest.raises(AccessDenied):
        await open_connection(replace(link.hub.context("hal"), seed=seed.seed))
    await ann.close()
    await hal.close()


async def refused_at_the_hub(link: TestLink) -> None:
    """What the site's admin publishes is heard by nobody at the hub, but for the kinds that visitors read."""
    lab = await open_connection(link.hub.context("broker"))
    account = await open_connection(link.hub.context("broker", site="berlin"))
    site = await open_connection(link.site.context("broker"))
    heard: list[str] = []
    for nc in (lab, account):
        await nc.listen("jsnats.>", lambda message: heard.append(message.subject))
        await nc.listen("$KV.>", lambda message: heard.append(message.subject))
        await nc.flush()
    before = await kept(lab)
    for subject in ("jsnats.call.x.hal.on", "jsnats.lease.hal.create", "jsnats.admin.hal.x", "$KV.jsnats_store.x"):
        await site.publish(subject, b"{}")
    await site.publish("jsnats.event.lab.forged", b"{}")
    await until_heard(site, account, heard)
    assert [each for each in heard if not each.startswith(("jsnats.event.", "jsnats.reply.", "$KV.jsnats_link."))] == []
    assert await kept(lab) == before
    for nc in (lab, account, site):
        await nc.close()


async def kept(lab: Connection) -> int:
    """How many events and records the hub's own lab has."""
    streams = ("JSNATS_EVENTS", "KV_jsnats_lab", "KV_jsnats_tree")
    return sum([(await lab.api(f"STREAM.INFO.{name}"))["state"]["messages"] for name in streams])


async def until_heard(site: Connection, account: Connection, heard: list[str]) -> None:
    """The link keeps the order: when the last one is there, all others would be."""
    async with asyncio.timeout(20):
        while "jsnats.event.lab.forged" not in heard:
            await asyncio.sleep(0.05)
            await account.flush()


def test_names_of_visitors_are_kept_apart(link: TestLink) -> None:
    """No principal of a lab has a name that ends in @hub; visitors are users and viewers of a site that there is."""
    with pytest.raises(ConfigurationError, match="who come by a hub"):
        link.site.add("user", "ann@hub")
    for role, site in (("admin", "berlin"), ("user", "paris")):
        with pytest.raises(ConfigurationError, match="visitors are users and viewers, of one of the sites: berlin"):
            link.hub.add(role, "eve", site=site)
    with pytest.raises(ConfigurationError, match="--leafnodes"):
        link.site.add_site("paris")


def test_a_visitor_waits_for_the_hub(link: TestLink, ann: Lab, bob: Lab) -> None:
    """His stream goes on after an outage of the hub that is longer than an exporter waits for a caller at its own
    broker: the link may be away for a moment, and the exporter is not told."""
    with ann.lease("name=bench", duration="1m") as bench:
        items = bench.streamingcall("count", 300, 0.02)
        first = next(items)
        link.hub_server.kill()
        end = time.monotonic() + CALLER_GONE_S + 2
        until_seen(lambda: bob.exporters()[0].holder == "ann@hub" and time.monotonic() > end)
        link.hub_server.start()
        assert [first, *items] == list(range(300))


def test_a_revoked_site_is_cut_off_at_once(link: TestLink, ann: Lab, tmp_path: Path) -> None:
    """Its link is closed, and refused when it dials again; the other site does not notice."""
    site, log = outside_lab(tmp_path), tmp_path / "log"
    join(site, link.hub, "paris")
    server = OutsideServer(site, log=log)
    server.start()
    try:
        until_seen(lambda: log.exists() and "Leafnode connection created" in log.read_text())
        with ann.lease("name=bench", duration="1m") as bench:
            link.hub.revoke("paris")
            until_seen(lambda: "Leafnode connection closed" in log.read_text(), timeout_s=5)
            until_seen(lambda: "Authorization Violation" in log.read_text())
            assert bench.sync_ping(1) == 1
    finally:
        server.kill()


@pytest.mark.timeout(240)
def test_the_site_works_while_the_hub_is_gone(link: TestLink, ann: Lab, bob: Lab) -> None:
    """Through a SIGKILL of the hub, and one of its own broker meanwhile; then the hub has the whole history, each event
    once, and visitors lease again before that."""
    link.hub_server.kill()
    with bob.lease("name=bench", duration="1m") as bench:
        assert [bench.sync_ping(number) for number in range(20)] == list(range(20))
    link.site_server.kill()
    link.site_server.start()
    until_seen(lambda: bob.exporters()[0].state == "available")
    with bob.lease("name=bench", duration="1m") as bench:
        assert bench.sync_ping(1) == 1
    link.hub_server.start()
    until_seen(lambda: ann.exporters()[0].state == "available")
    with ann.lease("name=bench", duration="1m") as bench:
        assert bench.sync_ping(2) == 2
    until_seen(lambda: same_history(ann, bob), timeout_s=CATCH_UP_S)


def test_a_copy_of_records_that_hears_nothing_is_made_anew(link: TestLink, ann: Lab) -> None:
    """nats-server would take 40 s to begin again after an outage, or for ever as here, where its origin is nowhere. The
    copies of history, which are large, are left as they are."""
    admin = link.hub.context("broker", site="berlin")
    history = asyncio.run(made(admin, "JSNATS_"))
    asyncio.run(deafen(admin))
    with pytest.raises((AssertionError, IndexError)):
        assert ann.exporters()[0].state == "available"
    until_seen(lambda: ann.exporters()[0].state == "available")
    assert asyncio.run(made(admin, "JSNATS_")) == history


async def deafen(admin: Context) -> None:
    """Let the records be mirrors of what is not there."""
    nc = await open_connection(admin)
    for name in await made(admin, "KV_"):
        config = (await nc.api(f"STREAM.INFO.{name}"))["config"]
        if "mirror" in config:
            config["mirror"]["external"]["api"] = "$JS.nowhere.API"
            await nc.api(f"STREAM.DELETE.{name}")
            await nc.api(f"STREAM.CREATE.{name}", config)
    await nc.close()


async def made(admin: Context, prefix: str) -> dict[str, str]:
    """When each of the streams was."""
    nc = await open_connection(admin)
    streams = (await nc.api("STREAM.LIST"))["streams"]
    await nc.close()
    return {each["config"]["name"]: each["created"] for each in streams if each["config"]["name"].startswith(prefix)}


def test_the_hub_says_since_when_a_site_is_away(link: TestLink, ann: Lab) -> None:
    """Its exporters are offline, and why, while their records stay; then they are there again."""
    began = time.time()
    link.site_server.kill()
    until_seen(lambda: ann.exporters()[0].reason == "the site berlin is not connected")
    away = ann.exporters()[0]
    assert away.state == "offline"
    assert began - 10 < away.since < time.time()
    link.site_server.start()
    until_seen(lambda: ann.exporters()[0].state == "available")


@pytest.mark.timeout(240)
@pytest.mark.skipif(not Network.possible(), reason="a hub of three has a network of its own: root, ip and iptables")
def test_a_hub_of_three_servers(tmp_path: Path) -> None:
    """The copies are on all three. When the server that the site is connected to is killed, the site goes to another
    one, visitors work there, and the history goes on at its place: each event once."""
    with running_cluster(tmp_path / "hub", network=True, leafnodes=LEAFNODES) as hub, ExitStack() as stack:
        site = outside_lab(tmp_path / "site")
        join(site, hub.lab)
        hub.lab.add("user", "ann", site="berlin")
        site.add("user", "bob")
        site.add("exporter", "bench")
        stack.enter_context(serving_outside(site))
        stack.enter_context(AgentProcess("bench", site.context_path("bench")))
        bob = stack.enter_context(connect(context=site.context("bob")))
        ann = stack.enter_context(connect(context=hub.lab.context("ann", site="berlin")))
        worked_and_seen(ann, bob)
        assert asyncio.run(replicas(hub.lab.context("broker", site="berlin"))) == {3}
        [home] = hub.linked("berlin")
        hub.kill(home)
        until_seen(lambda: hub.linked("berlin") not in ([], [home]))
        worked_and_seen(ann, bob)


async def replicas(admin: Context) -> set[int]:
    """On how many servers the streams of an account are."""
    nc = await open_connection(admin)
    streams = (await nc.api("STREAM.LIST"))["streams"]
    await nc.close()
    return {each["config"]["num_replicas"] for each in streams}


def save(lab: LabDir, path: Path, *more: str) -> None:
    """Make a backup."""
    command = [sys.executable, "-m", "jsnats.sdk.cli", "broker", "backup", str(path), "--dir", str(lab.path), *more]
    subprocess.run(command, check=True, capture_output=True)


def restored(old: LabDir, folder: Path, archive: Path) -> LabDir:
    """A lab at the same address that has nothing but the backup, and as a site the file from its hub."""
    before = old.outside()
    assert before
    lab = outside_lab(folder, before.nodes[0], leafnodes=before.leafnodes)
    outside = lab.outside()
    assert outside
    if leaf := old.leaf():
        lab.join(leaf)
        lab.configure_outside(outside, TEST_STORE)
    server = OutsideServer(lab)
    server.start()
    until_seen(lambda: asyncio.run(restore_lab(archive, lab)))
    server.kill()
    return lab


@pytest.mark.timeout(240)
def test_hub_and_site_come_back_from_backups(tmp_path: Path) -> None:
    """The site is lost and restored: the hub's copies, which had come further, become those of the restored lab. Then
    the hub is: it knows the site and its visitors by what they have, and copies anew."""
    with running_link(tmp_path / "first") as link, ExitStack() as stack:
        hub, site = link.hub, link.site
        hub.add("user", "ann", site="berlin")
        site.add("user", "bob")
        site.add("exporter", "bench")
        stack.enter_context(AgentProcess("bench", site.context_path("bench")))
        bob = stack.enter_context(connect(context=site.context("bob")))
        ann = stack.enter_context(connect(context=hub.context("ann", site="berlin")))
        worked_and_seen(ann, bob)
        save(site, tmp_path / "site.tar")
        save(hub, tmp_path / "hub.tar", "--creds")
        worked_and_seen(ann, bob)
        lost = history(bob)
        link.stop_site()
        site = restored(site, tmp_path / "site", tmp_path / "site.tar")
        stack.enter_context(serving_outside(site))
        worked_and_seen(ann, bob)
        assert not set(lost) <= set(history(bob))
        link.stop_hub()
        hub = restored(hub, tmp_path / "hub", tmp_path / "hub.tar")
        assert hub.context("ann", site="berlin").seed == ann.inner.connection.context.seed
        stack.enter_context(serving_outside(hub))
        worked_and_seen(ann, bob)


def worked_and_seen(ann: Lab, bob: Lab) -> None:
    """A visitor takes a lease and calls, and both ends tell the same of it."""
    until_seen(lambda: ann.exporters()[0].state == "available")
    with ann.lease("name=bench", duration="1m") as bench:
        assert bench.sync_ping(2) == 2
    until_seen(lambda: same_history(ann, bob), timeout_s=CATCH_UP_S)
