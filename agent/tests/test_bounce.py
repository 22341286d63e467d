"""A user cannot make the broker deliver bytes of his choice where only somebody else may publish.

The bounces are those of JetStream: replies to API requests, direct gets of stored bytes, publish acknowledgements,
push and pull consumers, message traces. All end on a subject the attacker may not publish to.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator

import pytest

from jsnats.agent import Exporter
from jsnats.agent.testing import Bench
from jsnats.broker.testing import TestBroker
from jsnats.schemas import MSGPACK, encode_msgpack, headers as h
from jsnats.sdk import AsyncLab, Connection, connect_async, open_connection

VICTIM = "jsnats.call.bench.tester.run_count"
STORED = "jsnats.console.friend.uart"
FORGED = {h.VERSION: "1", h.CALL: "0" * 32, h.CONTENT_TYPE: MSGPACK, h.CTL: "cancel", h.INDEX: "0"}


@pytest.fixture
async def mallory(broker: TestBroker) -> AsyncIterator[Connection]:
    """A user with a good credential and bad intentions, and a friend among the exporters."""
    async with await open_connection(broker.add("exporter", "friend")) as friend:
        await friend.request(STORED, b"{}", headers=FORGED)
    async with await open_connection(broker.context("mallory")) as connection:
        yield connection


async def bounces(mallory: Connection, target: str) -> None:
    """Try every way to have something delivered on `target`."""
    blob = f"jsnats.blob.{secrets.token_hex(32)}.0"
    await mallory.request(blob, b"{}", headers=FORGED)
    consumer = secrets.token_hex(8)
    config = {"name": consumer, "ack_policy": "none", "filter_subject": STORED, "inactive_threshold": 5 * 10**9}
    await mallory.api(
        f"CONSUMER.CREATE.JSNATS_CONSOLE.{consumer}.{STORED}", {"stream_name": "JSNATS_CONSOLE", "config": config}
    )
    for subject, body in (
        (f"$JS.API.DIRECT.GET.JSNATS_BLOBS.{blob}", b""),
        (f"{blob}1", b"x"),
        (f"$JS.API.CONSUMER.MSG.NEXT.JSNATS_CONSOLE.{consumer}", b'{"batch":1}'),
        (f"$JS.API.CONSUMER.CREATE.JSNATS_CONSOLE.{consumer}x.{STORED}", b"{}"),
        ("$JS.API.DIRECT.GET.KV_jsnats_tree.$KV.jsnats_tree.bench", b""),
        ("jsnats.call.bench.mallory.ping", b""),
    ):
        await mallory.publish(subject, body, reply=target, headers=FORGED)
    push = secrets.token_hex(8)
    pushing = {"stream_name": "JSNATS_CONSOLE", "config": config | {"name": push, "deliver_subject": target}}
    await mallory.request(f"$JS.API.CONSUMER.CREATE.JSNATS_CONSOLE.{push}.{STORED}", json.dumps(pushing).encode())
    traced = FORGED | {"Nats-Trace-Dest": target}
    await mallory.publish("jsnats.call.bench.mallory.ping", b"", reply="jsnats.reply.mallory.x", headers=traced)
    await mallory.flush()


async def test_no_bounce_becomes_a_call_of_somebody_else(
    exporter: Exporter, lab: AsyncLab, mallory: Connection
) -> None:
    """After every bounce onto the victim's call subject the method has not run."""
    await bounces(mallory, VICTIM)
    client = await lab.exporter("bench")
    assert await client.call_async("run_count") == 1


async def test_no_bounce_ends_the_call_of_somebody_else(exporter: Exporter, lab: AsyncLab, mallory: Connection) -> None:
    """Bounces onto the ctl subject of a running call, its id known to the attacker, do not cancel it."""
    job = await lab.caller.detach("bench", "", "sleep", encode_msgpack([30]))
    await bounces(mallory, f"jsnats.ctl.bench.tester.{job.partition('.')[2]}")
    assert await lab.job(job).state() == "running"
    await lab.job(job).cancel()


async def test_no_bounce_gets_into_the_results_of_somebody_else(
    exporter: Exporter, lab: AsyncLab, mallory: Connection
) -> None:
    """Bounces onto the live subject of an open stream add nothing to it."""
    results = await lab.stream("bench", "", "count", encode_msgpack([2000]))
    assert results.stream
    await bounces(mallory, f"jsnats.live.tester.bench.{results.stream.id}")
    assert [item async for item in results] == list(range(2000))


async def test_a_request_with_somebody_elses_reply_subject_is_dropped(
    exporter: Exporter, lab: AsyncLab, mallory: Connection
) -> None:
    """A call of mallory's own that names tester's inbox is not run, so nothing arrives there."""
    await mallory.publish("jsnats.call.bench.mallory.run_count", b"", reply=lab.connection.replies.inbox())
    await mallory.flush()
    client = await lab.exporter("bench")
    assert await client.call_async("run_count") == 1


async def test_a_user_cannot_speak_as_another(broker: TestBroker, exporter: Exporter, mallory: Connection) -> None:
    """Publishing on another user's call subject is denied by the broker, at once and by name."""
    from jsnats.common.exceptions import AccessDenied

    with pytest.raises(AccessDenied, match="no permission to publish"):
        await mallory.request(VICTIM, b"")


async def test_a_viewer_may_look_but_not_call(broker: TestBroker, exporter: Exporter) -> None:
    """A viewer sees the tree; its call is refused at once as AccessDenied."""
    from jsnats.common.exceptions import AccessDenied

    async with connect_async(context=broker.context("watcher")) as lab:
        assert [info.name for info in await lab.exporters() if info.name == "bench"] == ["bench"]
        client = await lab.exporter("bench")
        with pytest.raises(AccessDenied):
            await client.call_async("ping")


def test_the_driver_saw_nothing_of_it() -> None:
    """A fresh Bench has run nothing: the counter these tests look at begins at zero."""
    assert Bench().runs == 0
