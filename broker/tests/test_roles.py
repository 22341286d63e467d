from __future__ import annotations

import pytest

from jsnats.broker import permissions
from jsnats.broker.testing import TestBroker
from jsnats.schemas import ADMIN, ROLES
from jsnats.sdk import Connection, Context

API = "$JS.API."
READ_BOB = "CONSUMER.CREATE.JSNATS_RESULTS.c1.jsnats.result.bob.>"

MAY_PUBLISH = [
    ("ann", "jsnats.call.rack1.ann.dut.power.on"),
    ("ann", "jsnats.ctl.rack1.ann.c1"),
    ("ann", "jsnats.up.rack1.ann.s1"),
    ("ann", "jsnats.lease.ann.request"),
    ("ann", "jsnats.store.ann.ls"),
    ("ann", "jsnats.blob.aa.0"),
    ("ann", API + "DIRECT.GET.JSNATS_BLOBS.jsnats.blob.aa"),
    ("rack1", "jsnats.store.rack1.put"),
    ("rack1", "jsnats.blob.aa.0"),
    ("sched", "jsnats.blob.aa"),
    ("sched", "$KV.jsnats_store.aa"),
    ("ann", "$SRV.PING"),
    ("ann", "$SYS.REQ.USER.INFO"),
    ("ann", API + "CONSUMER.CREATE.JSNATS_RESULTS.c1.jsnats.result.ann.>"),
    ("ann", API + "CONSUMER.CREATE.JSNATS_CONSOLE.c1.jsnats.console.>"),
    ("ann", API + "DIRECT.GET.KV_jsnats_tree.$KV.jsnats_tree.rack1"),
    ("vic", API + "CONSUMER.CREATE.JSNATS_EVENTS.c1.jsnats.event.>"),
    ("vic", API + "DIRECT.GET.KV_jsnats_presence.$KV.jsnats_presence.rack1"),
    ("rack1", "jsnats.reply.ann.r1"),
    ("rack1", "jsnats.result.ann.rack1.c1"),
    ("rack1", "jsnats.down.ann.rack1.s1"),
    ("rack1", "jsnats.console.rack1.dut.uart"),
    ("rack1", "jsnats.log.rack1.dut"),
    ("rack1", "jsnats.event.rack1.online"),
    ("rack1", "$KV.jsnats_tree.rack1"),
    ("rack1", "$KV.jsnats_presence.rack1"),
    ("rack1", API + "DIRECT.GET.JSNATS_BLOBS.jsnats.blob.aa.0"),
    ("rack1", API + "DIRECT.GET.KV_jsnats_lab.$KV.jsnats_lab.lease.rack1"),
    ("sched", "$KV.jsnats_lab.lease.rack1"),
    ("sched", "$KV.jsnats_presence.rack1"),
    ("sched", "jsnats.event.lab.lease.granted"),
    ("sched", "jsnats.reply.ann.r1"),
    ("sched", API + "STREAM.INFO.KV_jsnats_lab"),
    ("sched", API + "STREAM.UPDATE.JSNATS_BLOBS"),
    ("sched", API + "STREAM.MSG.GET.JSNATS_BLOBS"),
    ("broker", "anything.at.all"),
]

MUST_NOT_PUBLISH = [
    ("ann", "jsnats.call.rack1.bob.dut.power.on"),
    ("ann", "jsnats.ctl.rack1.bob.c1"),
    ("ann", "jsnats.up.rack1.bob.s1"),
    ("ann", "jsnats.lease.bob.request"),
    ("ann", "jsnats.admin.ann.release"),
    ("ann", "jsnats.store.bob.ls"),
    ("ann", "jsnats.blob.aa"),
    ("ann", "$KV.jsnats_store.aa"),
    ("ann", API + "DIRECT.GET.KV_jsnats_store.$KV.jsnats_store.aa"),
    ("ann", API + "CONSUMER.CREATE.JSNATS_BLOBS.c1.jsnats.blob.>"),
    ("vic", "jsnats.store.vic.ls"),
    ("vic", API + "DIRECT.GET.JSNATS_BLOBS.jsnats.blob.aa.0"),
    ("rack1", "jsnats.store.rack2.ls"),
    ("rack1", "jsnats.blob.aa"),
    ("rack1", API + "STREAM.PURGE.JSNATS_BLOBS"),
    ("ann", "jsnats.reply.bob.r1"),
    ("ann", "jsnats.result.ann.rack1.c1"),
    ("ann", "jsnats.live.ann.rack1.c1"),
    ("ann", "jsnats.console.rack1.dut.uart"),
    ("ann", "jsnats.event.rack1.online"),
    ("ann", "jsnats.event.lab.lease.granted"),
    ("ann", "$KV.jsnats_tree.rack1"),
    ("ann", "$KV.jsnats_lab.lease.rack1"),
    ("ann", API + READ_BOB),
    ("ann", API + "CONSUMER.CREATE.JSNATS_RESULTS.c1"),
    ("ann", API + "CONSUMER.CREATE.JSNATS_RESULTS.c1.>"),
    ("ann", API + "DIRECT.GET.JSNATS_RESULTS.jsnats.result.ann.rack1.c1"),
    ("ann", API + "DIRECT.GET.JSNATS_BLOBS"),
    ("ann", API + "STREAM.NAMES"),
    ("ann", API + "STREAM.LIST"),
    ("ann", API + "STREAM.INFO.JSNATS_RESULTS"),
    ("ann", API + "CONSUMER.LIST.JSNATS_RESULTS"),
    ("ann", API + "STREAM.PURGE.JSNATS_BLOBS"),
    ("ann", API + "STREAM.DELETE.JSNATS_BLOBS"),
    ("ann", API + "STREAM.CREATE.MINE"),
    ("vic", "jsnats.call.rack1.vic.dut.power.on"),
    ("vic", "jsnats.lease.vic.request"),
    ("vic", "jsnats.blob.aa.0"),
    ("vic", API + "CONSUMER.CREATE.JSNATS_RESULTS.c1.jsnats.result.vic.>"),
    ("rack1", "jsnats.result.ann.rack2.c1"),
    ("rack1", "jsnats.console.rack2.dut.uart"),
    ("rack1", "jsnats.event.rack2.online"),
    ("rack1", "jsnats.event.lab.lease.granted"),
    ("rack1", "jsnats.call.rack2.ann.dut.power.on"),
    ("rack1", "$KV.jsnats_tree.rack2"),
    ("rack1", "$KV.jsnats_presence.rack2"),
    ("rack1", "$KV.jsnats_lab.lease.rack1"),
    ("rack1", API + "DIRECT.GET.KV_jsnats_lab.$KV.jsnats_lab.lease.rack2"),
    ("rack1", API + "STREAM.PURGE.JSNATS_CONSOLE"),
    ("sched", "jsnats.call.rack1.ann.dut.power.on"),
    ("sched", "jsnats.result.ann.rack1.c1"),
    ("sched", API + "STREAM.DELETE.SOMEBODYS"),
    ("sched", "jsnats.console.rack1.dut.uart"),
]

MAY_SUBSCRIBE = [
    ("ann", "jsnats.reply.ann.x.*"),
    ("ann", "jsnats.live.ann.rack1.c1"),
    ("ann", "jsnats.down.ann.rack1.s1"),
    ("ann", "jsnats.watch.rack1.>"),
    ("ann", "jsnats.event.>"),
    ("vic", "jsnats.watch.>"),
    ("vic", "jsnats.log.rack2.>"),
    ("rack1", "jsnats.call.rack1.>"),
    ("rack1", "jsnats.ctl.rack1.>"),
    ("rack1", "jsnats.up.rack1.>"),
    ("rack1", "$SRV.>"),
    ("sched", "jsnats.lease.>"),
    ("sched", "jsnats.store.>"),
    ("sched", "jsnats.admin.>"),
    ("sched", "$SYS.ACCOUNT.*.DISCONNECT"),
    ("broker", ">"),
]

MUST_NOT_SUBSCRIBE = [
    ("ann", ">"),
    ("ann", "jsnats.>"),
    ("ann", "jsnats.reply.bob.>"),
    ("ann", "jsnats.reply.>"),
    ("ann", "jsnats.live.bob.>"),
    ("ann", "jsnats.down.bob.>"),
    ("ann", "jsnats.result.ann.>"),
    ("ann", "jsnats.call.rack1.>"),
    ("ann", "jsnats.lease.ann.>"),
    ("ann", "$SYS.ACCOUNT.*.DISCONNECT"),
    ("rack1", "$SYS.>"),
    ("ann", "$KV.>"),
    ("vic", "jsnats.reply.ann.>"),
    ("vic", "jsnats.live.>"),
    ("vic", "jsnats.down.>"),
    ("rack1", "jsnats.call.rack2.>"),
    ("rack1", "jsnats.call.>"),
    ("rack1", "jsnats.up.rack2.>"),
    ("rack1", "jsnats.reply.ann.>"),
    ("rack1", "jsnats.watch.rack2.>"),
    ("sched", "jsnats.call.>"),
    ("sched", "jsnats.reply.ann.>"),
]


async def ignore(_: object) -> None:
    """A subscriber that takes everything."""


async def denied_publish(nc: Connection, subject: str) -> list[str]:
    """Publish, and return what the broker refused of it."""
    seen: list[str] = []
    nc.on_denied.append(seen.append)
    await nc.publish(subject)
    await nc.flush()  # the broker complains before it answers this
    return seen


async def denied_subscribe(nc: Connection, subject: str) -> list[str]:
    """Subscribe, and return what the broker refused of it."""
    seen: list[str] = []
    nc.on_denied.append(seen.append)
    await nc.subscribe(subject, ignore)
    await nc.flush()
    return seen


@pytest.mark.parametrize(("who", "subject"), MAY_PUBLISH)
async def test_may_publish(broker: TestBroker, connect, who: str, subject: str) -> None:
    """The broker takes what the subject table gives a role."""
    assert await denied_publish(await connect(broker.context(who)), subject) == []


@pytest.mark.parametrize(("who", "subject"), MUST_NOT_PUBLISH)
async def test_must_not_publish(broker: TestBroker, connect, who: str, subject: str) -> None:
    """The broker refuses to carry what a role has no right to say."""
    assert await denied_publish(await connect(broker.context(who)), subject)


@pytest.mark.parametrize(("who", "subject"), MAY_SUBSCRIBE)
async def test_may_subscribe(broker: TestBroker, connect, who: str, subject: str) -> None:
    """The broker delivers what the subject table gives a role."""
    assert await denied_subscribe(await connect(broker.context(who)), subject) == []


@pytest.mark.parametrize(("who", "subject"), MUST_NOT_SUBSCRIBE)
async def test_must_not_subscribe(broker: TestBroker, connect, who: str, subject: str) -> None:
    """The broker refuses a subscription to what is meant for others."""
    assert await denied_subscribe(await connect(broker.context(who)), subject)


async def test_own_filter_in_the_body_does_not_widen_the_subject(broker: TestBroker, connect) -> None:
    """A consumer made on one's own subject cannot filter somebody else's results."""
    ann = await connect(broker.context("ann"))
    config = {"name": "c1", "ack_policy": "none", "filter_subject": "jsnats.result.bob.>"}
    subject = "$JS.API.CONSUMER.CREATE.JSNATS_RESULTS.c1.jsnats.result.ann.>"
    with pytest.raises(Exception, match="filter"):
        await ann.api(subject.removeprefix("$JS.API."), {"stream_name": "JSNATS_RESULTS", "config": config})


async def test_call_travels_both_ways(broker: TestBroker, connect) -> None:
    """With roles on, a user's call reaches the exporter and the exporter's answer reaches the user."""
    ann, rack = await connect(broker.context("ann")), await connect(broker.context("rack1"))

    async def answer(message) -> None:
        await rack.publish(message.reply, b"on")

    await rack.subscribe("jsnats.call.rack1.>", answer)
    await rack.flush()
    assert (await ann.request("jsnats.call.rack1.ann.power.on")).data == b"on"


async def test_roll_up_is_refused(broker: TestBroker, connect) -> None:
    """An exporter cannot empty a bucket with a `Nats-Rollup` header on its own record."""
    one, two = await connect(broker.context("rack1")), await connect(broker.context("rack2"))
    await two.request("$KV.jsnats_presence.rack2", b"{}")
    for how in ("all", "sub"):
        answer = await one.request("$KV.jsnats_presence.rack1", b"{}", headers={"Nats-Rollup": how})
        assert b'"error"' in answer.data
    ann = await connect(broker.context("ann"))
    kept = await ann.request("$JS.API.DIRECT.GET.KV_jsnats_presence.$KV.jsnats_presence.rack2")
    assert kept.data == b"{}"


async def test_name_with_other_characters(broker: TestBroker, connect) -> None:
    """A user whose name needs escaping is pinned to the escaped token."""
    nc = await connect(broker.add("user", "eve@corp.example"))
    assert await denied_publish(nc, "jsnats.call.rack1.eve=40corp=2Eexample.power.on") == []
    assert await denied_publish(nc, "jsnats.call.rack1.eve.power.on")


async def test_system_account_hears_who_disconnects(broker: TestBroker, connect) -> None:
    """The system credential sees the end of a lab member's connection."""
    import asyncio

    system = await connect(broker.inner.lab.system_context())
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def note(message) -> None:
        if not heard.done():
            heard.set_result(message.data)

    await system.subscribe("$SYS.ACCOUNT.LAB.DISCONNECT", note)
    await system.flush()
    nc = await connect(broker.context("rack1"))
    await nc.close()
    async with asyncio.timeout(10):
        assert b"DISCONNECT" in (await heard).upper()


async def test_stranger_is_refused(broker: TestBroker, connect) -> None:
    """Without a credential, and with a wrong one, there is no connection."""
    from jsnats.schemas import AccessDenied

    with pytest.raises(AccessDenied):
        await connect(Context(url=broker.url, name="ann"))


def test_every_role_has_permissions() -> None:
    """Only the admin is unrestricted; every other role has a list for both directions."""
    for role in ROLES:
        allowed = permissions(role, "me")
        assert (allowed is None) == (role == ADMIN)
        assert allowed is None or (allowed.publish and allowed.subscribe)
