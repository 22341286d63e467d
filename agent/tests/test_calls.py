"""Calls, end to end on a real broker with roles on."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from jsnats.agent import Exporter
from jsnats.common.exceptions import (
    Busy,
    CallCancelled,
    ConfigurationError,
    DeadlineExceeded,
    DriverError,
    InvalidArgument,
    InvalidName,
    MethodNotFound,
    OutcomeUnknown,
    TooLarge,
)
from jsnats.schemas import MSGPACK, call_subject, encode_msgpack, error_from_wire, headers as h
from jsnats.sdk import AsyncLab, Message
from jsnats.testing import until_async


async def send(lab: AsyncLab, method: str, body: bytes = b"", kind: str = MSGPACK, **headers: str) -> Message:
    """A raw call of `method` on exporter `bench`; header names with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await lab.connection.request(
        call_subject("bench", "tester", "", method), body, headers={h.CONTENT_TYPE: kind} | named
    )


def raised(message: Message) -> Exception:
    """The error that a raw reply carries."""
    from jsnats.sdk import Caller

    return Caller.remote_error(message)


VALUES = [
    None,
    True,
    5,
    2**53 + 1,
    -(2**63),
    2**64 - 1,
    1.5,
    "grün",
    b"\x00\xff",
    [1, [2, {"a": b"x"}]],
    {"k": [None]},
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_arrive_as_what_they_were(client: Any, value: Any) -> None:
    """msgpack keeps ints, bytes and datetimes; a method on the loop and one on a thread return the same."""
    assert client.call("ping", value) == value
    assert client.call("sync_ping", value) == value


@pytest.mark.parametrize("kind", [ValueError, NotImplementedError, TimeoutError, ConnectionError, OSError])
def test_a_drivers_builtin_error_arrives_as_a_driver_error_and_that_builtin(client: Any, kind: type[Exception]) -> None:
    """The caller can catch it as DriverError and as the builtin, and sees message, path and cause."""
    with pytest.raises(kind) as caught:
        client.fail(kind.__name__, "no contact")
    assert isinstance(caught.value, DriverError)
    assert caught.value.cause == kind.__name__
    assert str(caught.value) == "fail: no contact"


@pytest.mark.parametrize("kind", ["RuntimeError", "SystemExit", "KeyError"])
def test_the_agent_outlives_whatever_a_driver_raises(client: Any, kind: str) -> None:
    """Even SystemExit is only that call's error."""
    with pytest.raises(DriverError):
        client.fail(kind)
    assert client.ping(1) == 1


async def test_a_second_call_is_answered_while_a_long_one_runs_and_that_one_is_cancelled_by_message(
    exporter: Exporter, lab: AsyncLab
) -> None:
    """Each call is its own task; cancelling the caller's task ends the exporter's within moments."""
    client = await lab.exporter("bench")
    long = asyncio.create_task(client.call_async("sleep", 10))
    begin = time.monotonic()
    assert await client.call_async("ping", "now") == "now"
    assert time.monotonic() - begin < 2
    (open_call,) = await until_async(exporter.dispatcher.table.running)
    task = open_call.task
    assert task
    long.cancel()
    await asyncio.wait_for(asyncio.wait({task}), 2)
    assert str(open_call.ending).endswith("cancelled: by its caller")


async def test_a_job_can_be_cancelled_by_anybody_who_has_its_id(exporter: Exporter, lab: AsyncLab) -> None:
    """`cancel` on ctl ends a detached call; attaching to it raises CallCancelled."""
    body = encode_msgpack([30])
    job = lab.job(await lab.caller.detach("bench", "", "sleep", body))
    assert await job.cancel() in ("running", "done")
    with pytest.raises(CallCancelled, match="by its caller"):
        async for _ in await job.attach():
            pytest.fail("a cancelled sleep has no result")


async def test_a_detached_call_is_attached_to_from_another_connection(
    exporter: Exporter, lab: AsyncLab, broker: Any
) -> None:
    """The result of a call without a caller waits for whoever attaches with its id."""
    from jsnats.sdk import connect_async

    job = await lab.caller.detach("bench", "", "count", encode_msgpack([300]))
    async with connect_async(context=broker.context("tester")) as other:
        assert [item async for item in await other.job(job).attach()] == list(range(300))


async def test_a_repeated_call_id_runs_once(exporter: Exporter, lab: AsyncLab) -> None:
    """The second message with one id is answered from memory."""
    call = secrets.token_hex(16)
    answers = [await send(lab, "run_count", Jsnats_Call=call) for _ in range(2)]
    assert answers[0].data == answers[1].data == encode_msgpack(1)
    assert (await send(lab, "run_count")).data == encode_msgpack(2)


async def test_a_retry_for_another_instance_is_refused_not_run(exporter: Exporter, lab: AsyncLab) -> None:
    """A call sent to an agent that is gone has an unknown outcome; this one does not run it."""
    answer = await send(lab, "run_count", Jsnats_Call=secrets.token_hex(16), Jsnats_Retry="0123456789abcdef 90000")
    assert isinstance(raised(answer), OutcomeUnknown)
    assert (await send(lab, "run_count")).data == encode_msgpack(1)


async def test_a_retry_to_the_same_instance_runs_if_the_first_was_lost(exporter: Exporter, lab: AsyncLab) -> None:
    """The name is exclusive: a call that we do not know and that can only have come to us has not run."""
    retry = f"{exporter.instance} 20"
    answer = await send(lab, "run_count", Jsnats_Call=secrets.token_hex(16), Jsnats_Retry=retry)
    assert answer.data == encode_msgpack(1)


async def test_a_late_call_is_refused_and_never_run(exporter: Exporter, lab: AsyncLab) -> None:
    """A deadline in the past is DeadlineExceeded, and the method has not run."""
    answer = await send(lab, "run_count", Jsnats_Deadline=str(int(time.time() * 1000) - 500))
    assert isinstance(raised(answer), DeadlineExceeded)
    assert (await send(lab, "run_count")).data == encode_msgpack(1)


def test_a_timeout_ends_the_call_on_both_sides(client: Any) -> None:
    """The caller gets DeadlineExceeded, which is a TimeoutError, at once."""
    begin = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        client.options(timeout_s=0.2).sleep(10)
    assert isinstance(caught.value, DeadlineExceeded)
    assert time.monotonic() - begin < 3


def test_a_timeout_ends_a_stream_too(client: Any) -> None:
    """A stream that goes silent is ended by its deadline, after the items that came."""
    stream = client.options(timeout_s=0.5).count(5, 100.0)
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        next(stream)
    assert time.monotonic() - begin < 3
    assert client.ended() == 1


def test_arguments_and_results_beyond_one_message_travel_in_parts(client: Any) -> None:
    """Five megabytes go and come, over a broker whose messages hold one."""
    assert client.size(bytes(5_000_000)) == 5_000_000
    assert client.make(5_000_000) == bytes(5_000_000)


def test_what_is_too_large_is_refused_before_it_is_sent(client: Any) -> None:
    """Over 64 MiB is TooLarge, in one line, and the client goes on."""
    with pytest.raises(TooLarge, match="64 MiB"):
        client.size(bytes(65 << 20))
    assert client.ping(1) == 1


def test_progress_reaches_a_caller_who_asks(client: Any) -> None:
    """`report_progress` in the driver calls `on_progress` at the client; the last step always comes."""
    seen: list[dict[str, Any]] = []
    assert client.options(on_progress=seen.append).work(3, 0.001) == 3
    assert seen[0]["message"] == "step 1"
    assert all(step["total"] == 3 for step in seen)


async def test_too_many_calls_on_one_driver_are_refused(exporter: Exporter, lab: AsyncLab) -> None:
    """The 65th open call on one driver is Busy, and the others are not harmed."""
    client = await lab.exporter("bench")
    long = [asyncio.create_task(client.call_async("sleep", 30)) for _ in range(64)]
    while len(exporter.dispatcher.table.running()) < 64:
        await asyncio.sleep(0)
    with pytest.raises(Busy):
        await client.call_async("ping")
    for call in long:
        call.cancel()
    await asyncio.wait(long)


BAD = [
    ("nothing", b"", InvalidArgument, MethodNotFound, "there is"),
    ("pong", b"", MethodNotFound, MethodNotFound, "did you mean 'ping'"),
    ("sleep", encode_msgpack([1, 2, 3]), InvalidArgument, InvalidArgument, "too many arguments"),
    ("sleep", encode_msgpack(["x"]), InvalidArgument, InvalidArgument, "seconds"),
    ("sleep", encode_msgpack({"second": 1}), InvalidArgument, InvalidArgument, "second"),
    ("sleep", b"\xc1\xff\x00", InvalidArgument, InvalidArgument, "msgpack"),
    ("sleep", b"\x93", InvalidArgument, InvalidArgument, "msgpack"),
    ("sleep", encode_msgpack(7), InvalidArgument, InvalidArgument, "array"),
]


@pytest.mark.parametrize(("method", "body", "_base", "error", "text"), BAD, ids=lambda value: str(value)[:24])
async def test_a_wrong_call_gets_one_clear_error(
    exporter: Exporter, lab: AsyncLab, method: str, body: bytes, _base: type, error: type, text: str
) -> None:
    """Unknown methods, wrong arguments and garbage bytes are named, and the agent goes on."""
    answer = raised(await send(lab, method, body))
    assert isinstance(answer, error)
    assert text in str(answer)
    assert "\n" not in str(answer)
    assert (await send(lab, "ping", encode_msgpack([1]))).data == encode_msgpack(1)


async def test_json_callers_get_json_and_the_error_headers_of_adr_32(exporter: Exporter, lab: AsyncLab) -> None:
    """No content type means JSON; bytes are base64 both ways; errors carry Nats-Service-Error and its code."""
    subject = call_subject("bench", "tester", "", "size")
    good = await lab.connection.request(subject, b'{"data": "AAEC"}')
    assert json.loads(good.data) == 3
    bad = await lab.connection.request(subject, b'{"data": 5}')
    assert bad.headers
    assert bad.headers[h.ERROR_CODE] == "400"
    assert json.loads(bad.data)["type"] == "InvalidArgument"
    assert isinstance(error_from_wire(400, json.loads(bad.data)), InvalidArgument)


async def test_srv_info_lists_every_method(exporter: Exporter, lab: AsyncLab) -> None:
    """A service tool sees the exporter as one service with an endpoint for each method, `*` for the user."""
    answer = await lab.connection.request(f"$SRV.INFO.jsnats-exporter.{exporter.instance}")
    info = json.loads(answer.data)
    assert info["type"] == "io.nats.micro.v1.info_response"
    assert info["id"] == exporter.instance
    endpoints = {endpoint["name"]: endpoint["subject"] for endpoint in info["endpoints"]}
    assert endpoints["sync_ping"] == "jsnats.call.bench.*.sync_ping"
    assert set(endpoints) == set(exporter.nodes[""].methods)


async def test_srv_stats_count_calls_and_errors(exporter: Exporter, lab: AsyncLab) -> None:
    """STATS has the figures of ADR-32 for each endpoint."""
    client = await lab.exporter("bench")
    await client.call_async("ping")
    with pytest.raises(DriverError):
        await client.call_async("fail", "KeyError")
    answer = await lab.connection.request("$SRV.STATS.jsnats-exporter")
    figures = {endpoint["name"]: endpoint for endpoint in json.loads(answer.data)["endpoints"]}
    assert figures["ping"]["num_requests"] == 1
    assert (figures["fail"]["num_errors"], figures["ping"]["num_errors"]) == (1, 0)
    assert "KeyError" in figures["fail"]["last_error"] or "DriverError" in figures["fail"]["last_error"]


async def test_sync_methods_of_a_driver_never_overlap(exporter: Exporter, lab: AsyncLab) -> None:
    """Two blocking calls take turns on the driver's one thread."""
    client = await lab.exporter("bench")
    begin = time.monotonic()
    await asyncio.gather(client.call_async("block", 0.2), client.call_async("block", 0.2))
    assert time.monotonic() - begin >= 0.4


async def test_a_stream_of_a_generator_that_raises_delivers_its_items_and_then_the_error(
    exporter: Exporter, lab: AsyncLab
) -> None:
    """Items before the error are not lost."""
    client = await lab.exporter("bench")
    seen = []
    with pytest.raises(InvalidArgument):
        async for item in client.streamingcall_async("count", "many"):
            seen.append(item)
    assert seen == []
    assert [item async for item in client.streamingcall_async("count", 3)] == [0, 1, 2]
    assert [item async for item in client.streamingcall_async("sync_count", 3)] == [0, 1, 2]


BAD_HEADERS = [
    {"Jsnats_Deadline": "²"},
    {"Jsnats_Deadline": "9" * 400},
    {"Jsnats_Retry": "x ²"},
    {"Jsnats_Parts": "²"},
    {"Jsnats_Parts": "0"},
    {"Jsnats_Call": "not an id"},
    {"Jsnats_Version": "abc"},
    {"Content_Type": "text/plain"},
]


@pytest.mark.parametrize("headers", BAD_HEADERS, ids=str)
async def test_a_malformed_header_is_an_answer_not_silence(
    exporter: Exporter, lab: AsyncLab, headers: dict[str, str]
) -> None:
    """Whatever stands in a header, the caller is told which one is wrong."""
    answer = await send(lab, "ping", **headers)
    assert isinstance(raised(answer) if headers.get("Content_Type") is None else InvalidArgument(""), InvalidArgument)
    assert answer.headers
    assert answer.headers[h.ERROR_CODE] == "400"


async def test_another_major_version_is_told_which_side_to_upgrade(exporter: Exporter, lab: AsyncLab) -> None:
    """A client of protocol 10 is newer than an exporter of protocol 1."""
    answer = await send(lab, "ping", Jsnats_Version="10")
    assert "client speaks protocol 10, exporter 1: upgrade the exporter" in str(raised(answer))


async def test_an_item_larger_than_all_the_credit_does_not_push_out_what_is_unread(
    exporter: Exporter, lab: AsyncLab
) -> None:
    """Items of 10 MiB, over the limit of what may be unread, arrive whole and in order."""
    client = await lab.exporter("bench")
    stream = client.streamingcall_async("count", 4, 0.0, 10 << 20)
    assert [(index, len(data)) async for index, data in stream] == [(i, 10 << 20) for i in range(4)]


async def test_garbage_on_every_subject_changes_nothing(exporter: Exporter, lab: AsyncLab) -> None:
    """Random bytes, headers and verbs on all subjects a user may write to: the agent answers as before, and forgets."""
    dice = random.Random(7)
    names = [
        h.VERSION,
        h.CALL,
        h.CTL,
        h.DEADLINE,
        h.RETRY,
        h.PARTS,
        h.PART,
        h.EPOCH,
        h.CONTENT_TYPE,
        h.DETACH,
        "Nats-X",
    ]
    values = [
        "1",
        "",
        "x",
        "-1",
        "9" * 30,
        "0" * 32,
        "cancel",
        "probe",
        "credit",
        "part",
        "attach",
        MSGPACK,
        "1/2",
        "ü",
    ]
    running = await lab.caller.detach("bench", "", "sleep", encode_msgpack([60]))
    calls = [running.partition(".")[2], "0" * 32, "x"]
    subjects = [f"jsnats.ctl.bench.tester.{call}" for call in calls]
    subjects += [
        "jsnats.call.bench.tester.ping",
        "jsnats.call.bench.tester.no.such.thing",
        "jsnats.call.bench.tester.count",
    ]
    subjects += ["$SRV.INFO", "$SRV.PING.jsnats-exporter", "jsnats.call.bench.tester"]
    for _ in range(400):
        headers = {dice.choice(names): dice.choice(values) for _ in range(dice.randrange(4))}
        reply = dice.choice([lab.connection.replies.inbox(), "", "jsnats.reply.mallory.x"])
        body = dice.randbytes(dice.randrange(40))
        await lab.connection.publish(dice.choice(subjects), body, reply=reply, headers=headers or None)
    client = await lab.exporter("bench")
    assert await client.call_async("ping", "alive") == "alive"
    assert [item async for item in client.streamingcall_async("count", 3)] == [0, 1, 2]


def test_an_error_always_reaches_its_caller(client: Any) -> None:
    """A text that UTF-8 cannot say, as an undecodable file name gives, or that no message holds, is mended."""
    with pytest.raises(DriverError, match="no such file: caf"):
        client.fail_with_surrogate()
    with pytest.raises(DriverError, match="xxxx"):
        client.fail("ValueError", "x" * 3_000_000)
    assert client.ping(1) == 1


def test_a_check_of_the_drivers_that_breaks_is_an_error_not_silence(client: Any) -> None:
    """Whatever an argument's validator raises, the caller is told."""
    with pytest.raises(DriverError, match="the check of 5 is broken"):
        client.judge(5)


def test_an_unexpected_exception_is_told_with_its_name(client: Any) -> None:
    """KeyError alone would read as 'missing'."""
    with pytest.raises(DriverError, match="KeyError: 'missing'"):
        client.fail("KeyError", "missing")


async def test_calls_cancelled_before_their_first_step_are_answered(exporter: Exporter, lab: AsyncLab) -> None:
    """Call and cancel back to back leave nothing running on the exporter."""
    client = await lab.exporter("bench")
    for _ in range(20):
        call = asyncio.create_task(client.call_async("sleep", 30))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call})
    await client.call_async("ping")
    async with asyncio.timeout(5):
        while exporter.dispatcher.table.running():
            await asyncio.sleep(0)


async def test_a_burst_beyond_the_limit_is_refused(exporter: Exporter, lab: AsyncLab) -> None:
    """Calls that arrive together count before they have begun."""
    client = await lab.exporter("bench")
    calls = [asyncio.create_task(client.call_async("sleep", 0.2)) for _ in range(200)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results.count("slept") == 64
    assert sum(isinstance(result, Busy) for result in results) == 136


async def test_a_name_that_breaks_a_subject_is_refused_before_it_is_sent(exporter: Exporter, lab: AsyncLab) -> None:
    """A space in an exporter's name would make the broker close the connection."""
    with pytest.raises(InvalidName):
        await lab.exporter("bench 1")
    with pytest.raises(ConfigurationError):
        lab.job("bench 1." + "0" * 32)
    assert await (await lab.exporter("bench")).call_async("ping", 1) == 1


async def test_a_callback_that_raises_ends_the_call_with_its_error(exporter: Exporter, lab: AsyncLab) -> None:
    """A fault in `on_progress` is its author's to see."""

    def broken(_progress: dict[str, Any]) -> None:
        raise KeyError("my mistake")

    client = (await lab.exporter("bench")).options(on_progress=broken)
    with pytest.raises(KeyError, match="my mistake"):
        await client.call_async("work", 3, 0.3)
