"""What no service can be made to do at the right moment: a stream without room."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from jsnats.schemas import END
from jsnats.sdk import DuplexStream, StreamReset

from ._local import LocalEnd


class Stream:
    """In the place of a DuplexStream and its pipe: takes what it is given, while it has room."""

    messages = False

    def __init__(self) -> None:
        self.pipe = self
        self.may_send = True
        self.sent: list[tuple[bytes, str]] = []
        self.used = 0

    def splice(self, taker: Any) -> None:
        """Nothing waits here."""

    def send(self, body: bytes | memoryview, mark: str) -> None:
        """Note it."""
        self.sent.append((bytes(body), mark))

    def use(self, size: int) -> None:
        """Count it."""
        self.used += size


@asynccontextmanager
async def carried(stream: Stream) -> AsyncIterator[tuple[LocalEnd, socket.socket, asyncio.Task[None]]]:
    """A local end at work, the socket of the program at its other side, and the task that carries."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    with theirs:
        _, local = await loop.connect_accepted_socket(lambda: LocalEnd(lambda _: None), ours)
        task = asyncio.create_task(local.carry(cast("DuplexStream", stream)))
        yield local, theirs, task
        task.cancel()
        local.reset()
        await asyncio.wait({task})
        await local.closed.wait()


async def until_full(theirs: socket.socket) -> int:
    """Send until nobody takes more for a while; return how much it was."""
    size = 0
    try:
        async with asyncio.timeout(10) as patience:
            while size < 64 << 20:
                patience.reschedule(asyncio.get_running_loop().time() + 0.3)
                await asyncio.get_running_loop().sock_sendall(theirs, bytes(4096))
                size += 4096
    except TimeoutError:
        pass
    return size


async def test_without_room_nothing_more_is_read() -> None:
    """What the other side says then stays where it is, and the program has to wait."""
    stream = Stream()
    stream.may_send = False
    async with carried(stream) as (local, theirs, _):
        size = await until_full(theirs)
        assert size < 8 << 20
        stream.may_send = True
        local.on_room()
        while sum(len(body) for body, _ in stream.sent) < size:
            await asyncio.sleep(0)


async def test_what_waits_is_sent_after_its_program_has_gone() -> None:
    """It said everything, closed, and does not take the answer: every byte is sent before `carry` returns."""
    stream = Stream()
    stream.may_send = False
    async with carried(stream) as (local, theirs, task):
        theirs.sendall(b"x" * 100_000)
        theirs.close()
        while not local._ended:
            await asyncio.sleep(0)
        local.on_bytes(b"answer", "")
        await local.closed.wait()
        await asyncio.sleep(0)
        assert not task.done()
        stream.may_send = True
        local.on_room()
        await task
    assert b"".join(body for body, _ in stream.sent) == b"x" * 100_000


async def test_a_program_that_is_reset_ends_it() -> None:
    """Without an end of what it said, nothing waits for room any more."""
    stream = Stream()
    stream.may_send = False
    async with carried(stream) as (local, theirs, task):
        theirs.sendall(b"x" * 1000)
        while not local._waiting:
            await asyncio.sleep(0)
        local.transport.abort()
        await task
    assert stream.sent == []


async def test_messages_are_marked() -> None:
    """Over a driver that keeps boundaries, each piece that was read is a message; the end is said once."""
    stream = Stream()
    stream.messages = True
    async with carried(stream) as (local, theirs, _):
        theirs.sendall(b"x" * 100)
        theirs.shutdown(socket.SHUT_WR)
        while len(stream.sent) < 2:
            await asyncio.sleep(0)
        local.on_room()
    assert stream.sent == [(b"x" * 100, "message"), (b"", END)]


async def test_the_death_of_the_stream_is_raised_by_its_name() -> None:
    """Whatever error the exporter gave is a StreamReset with its text."""
    async with carried(Stream()) as (local, _, task):
        local.on_over(ValueError("no power"))
        with pytest.raises(StreamReset, match="no power"):
            await task


async def test_bytes_after_the_end_are_dropped_and_counted() -> None:
    """A local side that has gone holds up nothing."""
    stream = Stream()
    async with carried(stream) as (local, _, task):
        local.transport.abort()
        await task
        local.on_bytes(b"late", END)
    assert stream.used == 5
