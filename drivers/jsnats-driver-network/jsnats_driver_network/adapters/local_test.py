"""What no service can be made to do at the right moment: a stream without room."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from jsnats.schemas import END
from jsnats.sdk import DuplexStream, StreamReset
from jsnats.testing import until_async

from . import _accept
from ._accept import Acceptor
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
async def carried(
    stream: Stream, pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair
) -> AsyncIterator[tuple[LocalEnd, socket.socket, asyncio.Task[None]]]:
    """A local end at work, the socket of the program at its other side, and the task that carries."""
    ours, theirs = pair()
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
        await until_async(lambda: sum(len(body) for body, _ in stream.sent) == size)


async def test_what_waits_is_sent_after_its_program_has_gone() -> None:
    """It closed and does not take the answer: every byte that was read is sent before `carry` returns."""
    stream = Stream()
    stream.may_send = False
    async with carried(stream) as (local, theirs, task):
        theirs.sendall(b"x" * 100_000)
        theirs.close()
        await until_async(lambda: bool(local._waiting))
        local.on_bytes(b"answer", "")
        await local.closed.wait()
        await asyncio.sleep(0)
        assert not task.done()
        stream.may_send = True
        local.on_room()
        await task
    assert b"".join(body for body, _ in stream.sent) == b"x" * 100_000


async def test_messages_are_marked() -> None:
    """Over a driver that keeps boundaries, each piece that was read is a message; the end is said once."""
    stream = Stream()
    stream.messages = True
    async with carried(stream) as (local, theirs, _):
        theirs.sendall(b"x" * 100)
        theirs.shutdown(socket.SHUT_WR)
        await until_async(lambda: len(stream.sent) == 2)
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


async def test_a_connection_that_was_accepted_is_made_before_the_end() -> None:
    """Whoever closes an acceptor then knows every connection, and can close it."""
    made: list[LocalEnd] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = Acceptor(listener, lambda: LocalEnd(made.append))
        with socket.create_connection(listener.getsockname()):
            acceptor._accept()
            await acceptor.close()
            (local,) = made
            local.reset()
            await local.closed.wait()


async def test_too_many_open_files_are_a_pause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so once, and the connection is accepted later."""
    monkeypatch.setattr(_accept, "PAUSE_S", 0.05)
    made: asyncio.Queue[LocalEnd] = asyncio.Queue()
    with Scarce() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        acceptor = Acceptor(listener, lambda: LocalEnd(made.put_nowait))
        with socket.create_connection(listener.getsockname()):
            local = await made.get()
            local.reset()
            await local.closed.wait()
        await acceptor.close()
    assert caplog.messages == ["cannot accept a connection: [Errno 24] Too many open files"]


class Scarce(socket.socket):
    """Refuses to accept once."""

    refused = False

    def accept(self) -> Any:
        """As a process that has too many files open."""
        if self.refused:
            return super().accept()
        self.refused = True
        raise OSError(errno.EMFILE, "Too many open files")


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        return server.accept()[0], theirs


async def test_an_end_for_a_program_that_has_reset_is_no_fault() -> None:
    """The exporter's end comes before the loop has seen the reset: nothing is raised, and the connection is over."""
    async with carried(Stream(), tcp_pair) as (local, theirs, task):
        await until_async(lambda: hasattr(local, "_pipe"))
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        local.on_bytes(b"", END)
        await local.closed.wait()
        await task
