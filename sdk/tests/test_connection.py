"""One connection to a real broker."""

from __future__ import annotations

import asyncio

from jsnats.common.utils import session_broker
from jsnats.sdk import Message, open_connection


async def test_a_task_cancelled_at_any_moment_of_a_connection_ends_cancelled() -> None:
    """Connect, request, flush, close: wherever the cancellation comes, it is not swallowed and nothing breaks."""
    context = session_broker().context("tester")

    async def work() -> None:
        connection = await open_connection(context)
        try:
            await connection.request("$SYS.REQ.USER.INFO")
            await connection.flush()
            await connection.wait_connected()
            await asyncio.Event().wait()
        finally:
            await connection.close()

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
