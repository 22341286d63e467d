"""One connection to a real broker."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from jsnats.common.utils import session_broker
from jsnats.schemas import BrokerUnreachable
from jsnats.sdk import Context, Message, NoResponders, open_connection


@contextmanager
def nothing_left() -> Iterator[None]:
    """What is done here leaves no socket that only the garbage collector closes."""
    gc.collect()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert not [str(each.message) for each in found]


async def test_a_task_cancelled_at_any_moment_of_a_connection_ends_cancelled() -> None:
    """Connect, request, flush, close: wherever the cancellation comes, it is not swallowed and nothing breaks."""
    context = session_broker().context("tester")

    async def work() -> None:
        async with await open_connection(context) as connection:
            await connection.request("$SYS.REQ.USER.INFO")
            await connection.flush()
            await connection.wait_connected()
            await asyncio.Event().wait()

    for steps in range(120):
        task = asyncio.create_task(work())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait({task})
        assert task.cancelled()


async def test_flush_means_that_the_broker_has_processed_what_was_sent() -> None:
    """A subscription that was made and flushed is there for a request that another connection sends right after."""
    broker = session_broker()
    ours = await open_connection(broker.add("exporter", "flusher"))
    theirs = await open_connection(broker.context("tester"))

    async def answer(message: Message) -> None:
        await ours.publish(message.reply, b"here")

    try:
        for number in range(50):
            subscription = await ours.subscribe(f"$SRV.PING.flush-{number}", answer)
            await ours.flush()
            assert (await theirs.request(f"$SRV.PING.flush-{number}")).data == b"here"
            await subscription.close()
    finally:
        await ours.close()
        await theirs.close()


async def test_large_and_small_messages_arrive_in_order() -> None:
    """A large one is written past the queue of the small ones, but not past those that are in it; and its bytes may be
    changed when it was published."""
    broker = session_broker()
    connection = await open_connection(broker.add("exporter", "mixed"))
    inbox, seen, done = connection.replies.inbox(), list[bytes](), asyncio.Event()

    def take(message: Message) -> None:
        seen.append(message.data[:1])
        if len(seen) == 40:
            done.set()

    try:
        await connection.listen(inbox, take)
        buffer = bytearray(300_000)
        for number in range(40):
            buffer[0] = number
            await connection.publish(inbox, memoryview(buffer) if number % 3 else bytes([number]))
        async with asyncio.timeout(5):
            await done.wait()
        assert seen == [bytes([number]) for number in range(40)]
    finally:
        await connection.close()


async def cancelled_twice(context: Context, first: int, second: int) -> None:
    """Open and close, cancelled after so many steps and again after so many more."""

    async def work() -> None:
        connection = await open_connection(context)
        await connection.close()

    task = asyncio.create_task(work())
    for steps in (first, second):
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait({task})
    assert task.cancelled() or task.exception() is None  # it was ready before
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("silent", [False, True])
def test_a_connection_that_is_cancelled_while_it_opens_leaves_nothing(silent: bool) -> None:
    """Once or twice, wherever: at a broker, and at one that takes connections and says nothing."""
    context = session_broker().context("tester")
    with socket.create_server(("127.0.0.1", 0)) as server:
        if silent:
            context = replace(context, url=f"nats://127.0.0.1:{server.getsockname()[1]}")
        for first, second in itertools.product(range(8 if silent else 25), (0, 1, 3)):
            with nothing_left():
                asyncio.run(cancelled_twice(context, first, second))


async def test_attempts_to_come_back_leave_no_sockets() -> None:
    """A broker that takes connections before it can serve them is tried again, and each of them is closed."""
    context = session_broker().context("tester")
    broker = context.url.removeprefix("nats://").split(":")
    refused, back = 0, asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        if pipes and refused < 3:
            refused += 1
            writer.write(b"wait\r\n")
        else:
            upstream = await asyncio.open_connection(*broker)
            pipes.append((writer, upstream[1]))
            await asyncio.gather(pump(reader, upstream[1]), pump(upstream[0], writer))
            upstream[1].close()
        writer.close()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    async def told() -> None:
        back.set()

    pipes: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    with nothing_left():
        connection = await open_connection(
            replace(context, url=f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        )
        connection.on_reconnect.append(told)
        for end in pipes[0]:
            end.transport.abort()
        async with asyncio.timeout(20):
            await back.wait()
        assert refused == 3
        await connection.close()
        for end in pipes[1]:
            end.close()
            await end.wait_closed()
        server.close()
        await server.wait_closed()


async def test_who_subscribes_while_there_is_no_client_hears_with_the_next_one() -> None:
    """The broker has closed the connection for good, and a new one is on its way. One that is closed subscribes no
    more."""
    broker, subject = session_broker(), "$SRV.PING.late"
    ours = await open_connection(broker.add("exporter", "late"))
    theirs = await open_connection(broker.context("tester"))

    async def answer(message: Message) -> None:
        await ours.publish(message.reply, b"here")

    try:
        await ours._client.close()
        subscription = await ours.subscribe(subject, answer)
        given_up = await ours.subscribe(subject, answer)
        await given_up.close()
        await ours.flush()
        assert (await theirs.request(subject)).data == b"here"
        await subscription.close()
        await ours.flush()
        with pytest.raises(NoResponders):
            await theirs.request(subject)
    finally:
        await ours.close()
        await theirs.close()
    with pytest.raises(BrokerUnreachable, match="was closed"):
        await ours.subscribe(subject, answer)


async def test_who_waits_for_the_broker_waits_no_more_when_the_connection_is_closed() -> None:
    """Not for the rest of the minute that a broker may be away."""
    connection = await open_connection(session_broker().context("tester"))
    connection.servers = ["nats://127.0.0.1:1"]
    await connection._client.close()
    asking = asyncio.create_task(connection.read("$SYS.REQ.USER.INFO"))
    await asyncio.sleep(0)  # it waits now
    await connection.close()
    async with asyncio.timeout(5):
        with pytest.raises(BrokerUnreachable, match="was closed"):
            await asking


async def test_one_that_is_closed_while_it_comes_back_leaves_nothing() -> None:
    """The broker takes the new client's connection and says nothing."""
    with nothing_left(), socket.create_server(("127.0.0.1", 0)) as server:
        connection = await open_connection(session_broker().context("tester"))
        connection.servers = [f"nats://127.0.0.1:{server.getsockname()[1]}"]
        await connection._client.close()
        taken, _ = await asyncio.to_thread(server.accept)
        await connection.close()
        taken.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(("url", "why"), [("nats://127.0.0.1:x", "invalid connect url"), ("nats://:1", "hostname")])
async def test_an_address_that_is_none_is_one_error(url: str, why: str) -> None:
    """It says what is wrong with it."""
    with pytest.raises(BrokerUnreachable, match=why):
        await open_connection(replace(session_broker().context("tester"), url=url))
