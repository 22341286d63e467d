"""Broker killed, agent killed, client killed, slow reader, full store, wrong clock: what a caller sees."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jsnats.agent.testing import AgentProcess
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.common.exceptions import (
    AccessDenied,
    BrokerUnfit,
    BrokerUnreachable,
    DeadlineExceeded,
    ExporterOffline,
    OutcomeUnknown,
    StorageFull,
)
from jsnats.schemas import encode_msgpack
from jsnats.sdk import Context, Lab, connect, connect_async
from jsnats.sdk._results import WINDOW
from jsnats.testing import until

pytestmark = pytest.mark.timeout(120)


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Run `work` in a thread while the block runs; its error is the test's."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not errors, errors


def test_a_long_stream_survives_two_kills_of_the_broker(broker: TestBroker, client: Any) -> None:
    """100 000 items through two SIGKILLs: every item once, in order."""
    seen: list[int] = []
    for item in client.count(100_000):
        seen.append(item)
        if len(seen) in (20_000, 60_000):
            broker.kill()
    assert seen == list(range(100_000))


def test_a_slow_stream_survives_two_kills_of_the_broker(broker: TestBroker, client: Any) -> None:
    """Items a millisecond apart, where live messages are lost rather than queued: every item once, in order."""
    seen: list[int] = []
    for item in client.count(1500, 0.001):
        seen.append(item)
        if len(seen) in (300, 900):
            threading.Thread(target=broker.kill).start()
    assert seen == list(range(1500))


def test_a_call_that_spans_a_broker_restart_returns_its_result(broker: TestBroker, client: Any) -> None:
    """The broker is killed while the method runs; the caller gets the result all the same, and it ran once."""
    with meanwhile(broker.kill):
        assert client.sleep(3.0) == "slept"
    assert client.run_count() == 1


def test_a_call_made_during_an_outage_waits_for_the_broker(broker: TestBroker, client: Any) -> None:
    """No connection is no error for a while: the call goes out when the broker is back, once."""
    broker.stop()
    with meanwhile(broker.start):
        assert client.run_count() == 1
    assert client.run_count() == 2


def test_a_slow_reader_makes_the_generator_wait_and_loses_nothing(client: Any) -> None:
    """The generator is never more than the window and what fits a few messages ahead; all items arrive."""
    total = 3 * WINDOW
    stream = client.count(total)
    seen = [next(stream)]
    previous = -1
    while (ahead := client.ahead()) != previous:
        previous = ahead
    assert ahead < WINDOW + 1024
    seen += stream
    assert seen == list(range(total))


def test_a_reader_of_large_items_is_never_megabytes_behind(client: Any) -> None:
    """Beside the credit in items, no more than 16 MiB are stored ahead of the reader."""
    stream = client.count(90, 0.0, 500_000)
    seen = [next(stream)[0]]
    previous = -1
    while (ahead := client.ahead()) != previous:
        previous = ahead
    assert ahead < 60
    seen += [item for item, _ in stream]
    assert seen == list(range(90))


def test_leaving_the_loop_ends_the_generator(client: Any) -> None:
    """`break` closes the generator on the exporter."""
    for item in client.count(10_000_000):
        if item == 10:
            break
    until(lambda: client.ended() == 1)


READER = """
import sys
from jsnats.sdk import Context, connect
from pathlib import Path
for item in connect(context=Context.load(Path(sys.argv[1]))).exporter("bench").count(100_000_000):
    if item == 1000:
        print("reading", flush=True)
"""


def test_a_client_that_dies_stops_the_generator_within_five_seconds(broker: TestBroker, client: Any) -> None:
    """SIGKILL of the reading process: nobody says goodbye, and the exporter stops by itself."""
    command = [sys.executable, "-c", READER, str(broker.context_path("alice"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout
        assert reader.stdout.readline() == "reading\n"
        reader.kill()
    begin = time.monotonic()
    until(lambda: client.ended() == 1)
    assert time.monotonic() - begin <= 5.5


def test_a_killed_agent_is_named_to_its_caller_within_two_seconds(client: Any, agent: AgentProcess) -> None:
    """SIGKILL in mid-call: ExporterOffline, which says that the call may have run."""
    client.ping()
    begin: list[float] = []

    def kill() -> None:
        until(lambda: client.ping(1) == 1)
        agent.kill()
        begin.append(time.monotonic())

    with meanwhile(kill), pytest.raises(ExporterOffline, match="may have run|offline"):
        client.sleep(60)
    assert time.monotonic() - begin[0] < 2


def test_a_stream_of_a_killed_agent_ends_with_a_named_error_after_its_items(client: Any, agent: AgentProcess) -> None:
    """What was stored is delivered, and then an error: never a silent end."""
    seen = []
    with pytest.raises((ExporterOffline, OutcomeUnknown)):
        for item in client.count(1_000_000, 0.001):
            seen.append(item)
            if item == 50:
                agent.kill()
    assert seen[:51] == list(range(51))
    assert seen == list(range(len(seen)))


def test_an_agent_restarted_under_its_name_takes_over_at_once(
    broker: TestBroker, client: Any, agent: AgentProcess
) -> None:
    """The record of the killed one is still there for seconds; nobody waits for it."""
    agent.kill()
    begin = time.monotonic()
    with AgentProcess("bench", broker.context_path("bench")) as second:
        assert second.greeting == "ready"
        assert time.monotonic() - begin < 5
        assert client.ping(5) == 5


def test_a_second_agent_under_a_name_is_refused(broker: TestBroker, client: Any) -> None:
    """It says who has the name, exits with 6, and the first one goes on."""
    with AgentProcess("bench", broker.context_path("bench")) as second:
        assert "already served by an agent on" in second.greeting
        assert second.wait() == 6
    assert client.ping(1) == 1


def test_a_frozen_agent_that_was_replaced_stops_answering_when_it_thaws(
    broker: TestBroker, agent: AgentProcess
) -> None:
    """Two agents of one name never both run a call: the thawed one sees the other's record and drops out."""
    agent.freeze()
    second = AgentProcess("bench", broker.context_path("bench"))
    while second.greeting != "ready":  # refused as long as the record lives
        second.wait()
        second = AgentProcess("bench", broker.context_path("bench"))
    with second, connect(context=broker.context("alice")) as lab:
        agent.thaw()
        agent.wait()  # it has lost its name and ends
        client = lab.exporter("bench")
        assert [client.run_count() for _ in range(5)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("offset_s", [3600.0, -3600.0])
def test_deadlines_hold_when_the_hosts_clock_is_an_hour_off(broker: TestBroker, offset_s: float) -> None:
    """The deadline is in the exporter's clock, which the client measures."""
    with (
        AgentProcess("bench", broker.context_path("bench"), clock_offset_s=offset_s),
        connect(context=broker.context("alice")) as lab,
    ):
        client = lab.exporter("bench")
        assert abs(client.clock() - time.time() - offset_s) < 60
        assert client.options(timeout_s=10).sleep(0.1) == "slept"
        with pytest.raises(DeadlineExceeded):
            client.options(timeout_s=0.3).sleep(30)


def test_a_full_store_is_one_clear_error_and_calls_go_on() -> None:
    """A stream that nobody reads fills RESULTS: StorageFull for it, other calls still work."""
    with (
        running_broker(total_bytes=20_000_000, principals={"exporter": ["bench"], "user": ["alice"]}) as broker,
        AgentProcess("bench", broker.context_path("bench")),
        connect(context=broker.context("alice")) as lab,
    ):
        client = lab.exporter("bench")
        with pytest.raises(StorageFull, match="jsnats broker df"):
            for _ in client.count(100_000, 0.0, 100_000):
                pass
        assert client.ping(1) == 1


@pytest.mark.parametrize("when", ["running", "done"])
async def test_a_job_whose_end_could_not_be_stored_says_so(when: str) -> None:
    """It filled RESULTS: who attaches gets what was stored, then the error, and need not wait for an end there."""
    with (
        running_broker(total_bytes=20_000_000, principals={"exporter": ["bench"], "user": ["alice"]}) as broker,
        AgentProcess("bench", broker.context_path("bench")),
    ):
        async with connect_async(context=broker.context("alice")) as lab, asyncio.timeout(20):
            client = await lab.exporter("bench")
            job = lab.job(await lab.caller.detach("bench", "", "count", encode_msgpack([200, 0.01, 100_000])))
            while when == "done" and await job.state() != "done":
                await client.call_async("ping", 1)
            seen = []
            with pytest.raises(StorageFull, match="jsnats broker df"):
                async for index, _ in await job.attach():
                    seen.append(index)
            assert seen == list(range(len(seen)))
            assert len(seen) > 5
            assert await job.state() == "done"


def test_no_broker_is_said_in_one_line_at_once() -> None:
    """The address, and what to do."""
    begin = time.monotonic()
    with pytest.raises(BrokerUnreachable, match="no broker at nats://127.0.0.1:1: start one with `jsnats up`"):
        connect(context=Context(url="nats://127.0.0.1:1", name="alice"))
    assert time.monotonic() - begin < 3


def test_a_wrong_credential_is_said_in_one_line(broker: TestBroker) -> None:
    """Not "no broker", and not a timeout."""
    import nkeys

    seed = nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER).decode()
    with pytest.raises(AccessDenied, match="does not accept the credential of 'alice'"):
        connect(context=Context(url=broker.url, name="alice", seed=seed))


def test_a_revoked_user_is_told_so(broker: TestBroker, client: Any) -> None:
    """The running connection ends at once; the next call is AccessDenied."""
    broker.revoke("alice")
    with pytest.raises(AccessDenied):
        client.sleep(30)


def test_a_broker_without_a_lab_is_said_in_one_line(nats_without_jetstream: str) -> None:
    """A NATS server without JetStream is named as such."""
    context = Context(url=nats_without_jetstream, name="alice")
    with connect(context=context) as lab, pytest.raises(BrokerUnfit, match="carries no lab"):
        lab.exporter("bench")


@pytest.fixture
def nats_without_jetstream(tmp_path: Any) -> Iterator[str]:
    """A nats-server with nothing switched on."""
    from jsnats.broker import nats_server_binary

    command = [str(nats_server_binary()), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        ports: list[Any] = []
        until(lambda: bool(ports.extend(tmp_path.glob("*.ports")) or (ports and ports[0].read_text())), 10)
        import json

        yield json.loads(ports[0].read_text())["nats"][0]
        server.terminate()


def test_a_lost_connection_of_the_agent_is_no_lost_call(broker: TestBroker, client: Any, lab: Lab) -> None:
    """Three kills while calls come and go: each returns its own value."""
    for round_ in range(3):
        with meanwhile(broker.kill):
            for i in range(200):
                assert client.ping(round_ * 1000 + i) == round_ * 1000 + i


async def test_a_busy_client_outlives_the_death_of_the_broker(broker: TestBroker, agent: AgentProcess) -> None:
    """64 callers at full speed: their loop goes on turning while there is no broker, and all calls come back."""
    async with connect_async(context=broker.context("alice")) as lab:
        client = await lab.exporter("bench")

        async def work() -> int:
            done = 0
            while done < 40 or not broken.is_set():
                try:
                    await client.call_async("ping", done)
                except OutcomeUnknown:
                    continue  # thousands of calls a second: an answer may be forgotten before it is asked for again
                done += 1
            return done

        broken = asyncio.Event()
        callers = [asyncio.create_task(work()) for _ in range(64)]
        for _ in range(3):
            await asyncio.to_thread(broker.kill)
        broken.set()
        async with asyncio.timeout(30):
            assert min(await asyncio.gather(*callers)) >= 40


async def test_a_stream_that_was_given_up_is_not_run_later(broker: TestBroker, agent: AgentProcess) -> None:
    """Given up during an outage: when the broker is back, the driver does nothing."""
    async with connect_async(context=broker.context("alice")) as lab:
        client = await lab.exporter("bench")
        await asyncio.to_thread(broker.stop)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                async for _ in client.streamingcall_async("count", 100):
                    pytest.fail("there is no broker")
        await asyncio.to_thread(broker.start)
        await lab.connection.wait_connected()
        assert await client.call_async("ping", 1) == 1
        assert await client.call_async("ahead") == 0


async def test_a_stalled_broker_does_not_push_results_out(broker: TestBroker, agent: AgentProcess) -> None:
    """A broker that sleeps for seconds stores what it was sent when it wakes: nothing is there twice or missing."""
    async with connect_async(context=broker.context("alice")) as lab:
        job = await lab.caller.detach("bench", "", "count", encode_msgpack([560, 0.004]))
        client = await lab.exporter("bench")
        while await client.call_async("ahead") < 100:
            pass
        os.kill(broker.inner.process.pid, signal.SIGSTOP)
        threading.Timer(3.5, os.kill, (broker.inner.process.pid, signal.SIGCONT)).start()
        while await client.call_async("ahead") < 560:
            pass
        assert [item async for item in await lab.job(job).attach()] == list(range(560))
