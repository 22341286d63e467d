"""The floor: what plain nats-py and msgpack do on the same broker, with the same roles and nothing of ours in between.

    python side_floor.py exporter CONTEXT
    python side_floor.py client CONTEXT
    python side_floor.py once CONTEXT

It imports nothing of jsnats. Subjects are those that the roles permit. There is no check of arguments, no deadline,
no call id, no answer kept for a retry, no acknowledged storage: a floor, not an alternative.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import queue
import secrets
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import measure

NAME = "floor"
USER = "floor-user"
ITEMS = 200_000
BATCH = 64
WINDOW = 4096
BUCKETS = ("tree", "presence")


async def open_client(context: dict[str, str]) -> Any:
    """Connect with the credential of a context file."""
    import nats

    inbox = f"jsnats.reply.{context['name']}"
    return await nats.connect(context["url"], nkeys_seed_str=context["seed"], inbox_prefix=inbox)


class Responder:
    """Answers `ping` and serves `items`, each in a task of its own."""

    def __init__(self, nc: Any) -> None:
        self.nc = nc
        self.tasks: set[asyncio.Task[None]] = set()

    async def on_message(self, message: Any) -> None:
        """Callback of the one subscription."""
        work = self.items if message.subject.endswith(".items") else self.ping
        task = asyncio.ensure_future(work(message))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def ping(self, message: Any) -> None:
        import msgpack

        await self.nc.publish(message.reply, msgpack.packb(await echo(*msgpack.unpackb(message.data))))

    async def items(self, message: Any) -> None:
        """Slow start: the first item alone, then batches of 64 within the credit that the reader grants."""
        import msgpack

        count, stream = msgpack.unpackb(message.data)
        subject = f"jsnats.down.{USER}.{NAME}.{stream}"
        credit, granted = 1, asyncio.Event()

        async def on_credit(grant: Any) -> None:
            nonlocal credit
            credit = int(grant.data)
            granted.set()

        grants = await self.nc.subscribe(f"jsnats.ctl.{NAME}.{USER}.{stream}", cb=on_credit)
        batch: list[Any] = []
        sent = 0
        async for each in readings(count):
            batch.append(each)
            if len(batch) == BATCH or not sent:
                while sent + len(batch) > credit:
                    granted.clear()
                    await granted.wait()
                await self.nc.publish(subject, msgpack.packb(batch))
                await asyncio.sleep(0)  # publish() alone never yields to the loop
                sent, batch = sent + len(batch), []
        if batch:
            await self.nc.publish(subject, msgpack.packb(batch))
        await self.nc.publish(subject, b"")
        await grants.unsubscribe()


async def echo(value: Any) -> Any:
    """What a driver's method would do."""
    return value


async def readings(count: int) -> AsyncGenerator[dict[str, Any], None]:
    """The generator of a driver."""
    for index in range(count):
        yield measure.item(index)


async def export(context: dict[str, str]) -> None:
    """Serve until killed."""
    nc = await open_client(context)
    await nc.subscribe(f"jsnats.call.{NAME}.>", cb=Responder(nc).on_message)
    await nc.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


async def ping(nc: Any) -> Any:
    """One request."""
    import msgpack

    body = msgpack.packb([measure.ARGUMENT])
    message = await nc.request(f"jsnats.call.{NAME}.{USER}.ping", body, timeout=10)
    return msgpack.unpackb(message.data)


def on_loop(context: dict[str, str], work: Callable[[Any], Awaitable[measure.Figures]]) -> measure.Figures:
    """Run an async row with a connection of its own."""

    async def run() -> measure.Figures:
        nc = await open_client(context)
        try:
            return await work(lambda: ping(nc))
        finally:
            await nc.close()

    return asyncio.run(run())


class Client:
    """Sync code over a loop in a thread: `run_coroutine_threadsafe` for calls, a queue of batches for streams."""

    def __init__(self, context: dict[str, str]) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.nc = self.run(open_client(context))

    def run(self, work: Any) -> Any:
        """Wait for a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def call(self) -> Any:
        return self.run(ping(self.nc))

    def items(self, count: int) -> Iterator[Any]:
        """Read a stream."""
        import msgpack

        batches: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        subscription = self.run(self._begin(count, batches))
        while body := batches.get():
            yield from msgpack.unpackb(body)
        self.run(subscription.unsubscribe())

    async def _begin(self, count: int, batches: queue.SimpleQueue[bytes]) -> Any:
        import msgpack

        stream = secrets.token_hex(16)
        got = told = 0

        async def on_batch(message: Any) -> None:
            nonlocal got, told
            batches.put(message.data)
            got += (BATCH if got else 1) if message.data else 0
            if got == 1 or got - told >= WINDOW // 4:
                told = got
                await self.nc.publish(f"jsnats.ctl.{NAME}.{USER}.{stream}", b"%d" % (got + WINDOW))

        subscription = await self.nc.subscribe(f"jsnats.down.{USER}.{NAME}.{stream}", cb=on_batch)
        await self.nc.publish(f"jsnats.call.{NAME}.{USER}.items", msgpack.packb([count, stream]))
        return subscription

    async def inventory(self) -> list[Any]:
        """Read the tree and presence records of all exporters, without decoding them."""
        return await asyncio.gather(*(self._read_bucket(f"jsnats_{name}") for name in BUCKETS))

    async def _read_bucket(self, bucket: str) -> list[bytes]:
        name, found = secrets.token_hex(16), []
        done = asyncio.Event()
        config = {"name": name, "ack_policy": "none", "filter_subject": f"$KV.{bucket}.>", "mem_storage": True}
        config |= {"deliver_policy": "last_per_subject", "inactive_threshold": 10**10}
        create = json.dumps({"stream_name": f"KV_{bucket}", "config": config}).encode()
        answer = await self.nc.request(f"$JS.API.CONSUMER.CREATE.KV_{bucket}.{name}.$KV.{bucket}.>", create)
        pending = json.loads(answer.data)["num_pending"]

        async def on_record(message: Any) -> None:
            found.append(message.data)
            if len(found) == pending:
                done.set()

        inbox = self.nc.new_inbox()
        subscription = await self.nc.subscribe(inbox, cb=on_record)
        ask = json.dumps({"batch": pending, "no_wait": True}).encode()
        await self.nc.publish(f"$JS.API.CONSUMER.MSG.NEXT.KV_{bucket}.{name}", ask, reply=inbox)
        await done.wait()
        await subscription.unsubscribe()
        return found


def serve_rows(context: dict[str, str]) -> None:
    """Answer run.py."""
    client = Client(context)
    measure.answer(
        {
            "sync_call": lambda: measure.sync_call(client.call),
            "async_call": lambda: on_loop(context, measure.async_call),
            "concurrent": lambda: on_loop(context, measure.concurrent),
            "stream": lambda: measure.stream(client.items, ITEMS),
            "first_item": lambda: measure.first_item(client.items),
            "inventory": lambda: measure.timed_ms(lambda: client.run(client.inventory())),
        }
    )


async def once(context: dict[str, str]) -> None:
    """What a command does at the least: connect, one request, close."""
    nc = await open_client(context)
    await ping(nc)
    await nc.close()


def main() -> None:
    """Parse, as a command would."""
    parser = argparse.ArgumentParser(description="The floor: plain nats-py.")
    parser.add_argument("part", choices=["exporter", "client", "once"])
    parser.add_argument("context", type=Path)
    arguments = parser.parse_args()
    context = json.loads(arguments.context.read_text())
    if arguments.part == "client":
        serve_rows(context)
    else:
        asyncio.run({"exporter": export, "once": once}[arguments.part](context))


if __name__ == "__main__":
    main()
