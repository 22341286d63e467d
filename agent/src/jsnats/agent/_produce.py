"""Run a generator and hand its items to a publisher in batches.

Items are sent as soon as the generator pauses, or a full batch at a time when it does not; never more often than about
once in a millisecond. A sync generator has a thread of its own, and only whole batches cross to the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

from ._publish import Publisher

PAUSE_S = 0.001
THREAD_S = 8.0
"""How long the thread of a cancelled generator is waited for."""

Leave = Callable[[asyncio.Future[Any], str], None]


class _Stopped(Exception):
    """The reader has gone; raised inside the producing thread."""


class _Flow:
    """Items between a generator and its publisher. `error` is what the generator raised."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.loop = asyncio.get_running_loop()
        self.items: list[Any] = []
        self.finished = False
        self.error: BaseException | None = None
        self.arrived = asyncio.Event()
        self.room = asyncio.Event()
        self.ended = asyncio.Event()

    async def drain(self) -> None:
        """Publish until the generator has finished, then raise its error if it had one."""
        sent_at = 0.0
        while True:
            await self.arrived.wait()
            if not self.finished and len(self.items) < self.publisher.batch and self.loop.time() - sent_at < PAUSE_S:
                await asyncio.sleep(PAUSE_S)
            self.arrived.clear()
            batch = self.take()
            if batch:
                await self.publisher.send(batch)
                sent_at = self.loop.time()
            elif self.finished:
                break
        if self.error:
            raise self.error

    def take(self) -> list[Any]:
        """Take what is there."""
        batch, self.items = self.items, []
        self.room.set()
        if batch and self.finished:
            self.arrived.set()
        return batch

    def finish(self, error: BaseException | None) -> None:
        """The generator has no more."""
        self.finished, self.error = True, error
        self.arrived.set()
        self.ended.set()


async def produce_async(source: AsyncIterator[Any], publisher: Publisher) -> None:
    """Publish all items of an async generator. Raises what it raises. Cancelling ends the generator."""
    try:
        # The first item goes before anything is set up for the rest.
        try:
            first = await anext(source)
        except StopAsyncIteration:
            return
        await publisher.send([first])
        await _produce_rest(source, publisher)
    finally:
        close = getattr(source, "aclose", None)
        if close:
            await close()


async def _produce_rest(source: AsyncIterator[Any], publisher: Publisher) -> None:
    flow = _Flow(publisher)

    async def run() -> None:
        error: BaseException | None = None
        try:
            async for item in source:
                flow.items.append(item)
                flow.arrived.set()
                if len(flow.items) >= publisher.batch:
                    flow.room.clear()
                    await flow.room.wait()
        except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001 - re-raised by drain()
            error = raised
        flow.finish(error)

    producer = asyncio.ensure_future(run())
    try:
        await flow.drain()
    finally:
        producer.cancel()
        await asyncio.wait({producer})


class _ThreadFlow(_Flow):
    """A flow whose generator runs on a thread."""

    def __init__(self, publisher: Publisher) -> None:
        super().__init__(publisher)
        self.lock = threading.Condition()
        self.stopped = False

    def push(self, item: Any) -> None:
        """From the thread: hand over one item, waiting while too many are ahead."""
        with self.lock:
            while len(self.items) >= 4 * self.publisher.batch and not self.stopped:
                self.lock.wait()
            if self.stopped:
                raise _Stopped
            self.items.append(item)
            first = len(self.items) == 1
        if first:
            self.loop.call_soon_threadsafe(self.arrived.set)

    def take(self) -> list[Any]:
        with self.lock:
            batch = super().take()
            self.lock.notify()
        return batch

    def stop(self) -> None:
        """Make the next push end the thread."""
        with self.lock:
            self.stopped = True
            self.lock.notify()


async def produce_sync(source: Iterator[Any], publisher: Publisher, name: str, leave: Leave) -> None:
    """Publish all items of a sync generator, run on a thread. Raises what it raises.

    Cancelling ends the generator at its next item: a thread inside a device call cannot be interrupted. What tells that
    such a thread has ended is given to `leave`.
    """
    flow = _ThreadFlow(publisher)

    def run() -> None:
        error: BaseException | None = None
        try:
            for item in source:
                flow.push(item)
        except BaseException as raised:  # noqa: BLE001 - re-raised by drain()
            error = raised
        finally:
            close = getattr(source, "close", None)
            if close:
                close()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            flow.loop.call_soon_threadsafe(flow.finish, error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name=f"generator-{name}", daemon=True).start()
    try:
        await flow.drain()
    finally:
        flow.stop()
        # Nobody may close the driver under a generator that still runs; one stuck in a device call is left behind.
        ended = asyncio.ensure_future(flow.ended.wait())
        try:
            await asyncio.wait({ended}, timeout=THREAD_S)
        finally:
            if not ended.done():
                leave(ended, name)
