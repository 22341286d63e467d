"""Two-way byte streams between a client and a driver, over a real broker."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.streams.stapled import StapledObjectStream

from jsnats.agent import Exporter, Spec
from jsnats.agent.testing import Bench
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.common.exceptions import DeadlineExceeded, DriverOSError, InvalidArgument
from jsnats.schemas import WINDOW, Chunk, chunk_headers, headers as h, up_subject
from jsnats.sdk import AsyncLab, DuplexStream, Message, StreamReset, connect_async, open_connection
from jsnats.sdk._duplex import Session
from jsnats.testing import until_async


@asynccontextmanager
async def opened(lab: AsyncLab, method: str = "connect", *args: Any) -> AsyncIterator[DuplexStream]:
    """A stream to the Bench of `exporter`."""
    client = await lab.exporter("bench")
    async with client.stream_async(method, *args) as stream:
        yield stream


@asynccontextmanager
async def tcp_server(serve: Any) -> AsyncIterator[int]:
    """A TCP server of this test; yields its port."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_messages_come_back_as_they_were_sent(exporter: Exporter, lab: AsyncLab) -> None:
    """Boundaries are kept: an empty message, a short one, and one larger than a NATS message."""
    sent = [b"", b"abc", secrets.token_bytes(3_000_000), b"z"]
    async with opened(lab) as stream:
        assert stream.messages
        for data in sent:
            await stream.send(data)
        assert [await stream.receive() for _ in sent] == sent


async def test_metadata_comes_before_the_first_byte(exporter: Exporter, lab: AsyncLab) -> None:
    """What the driver says when it opens is there when `open` returns; arguments are checked as those of a call."""
    async with opened(lab, "connect", "hello") as stream:
        assert stream.metadata == {"greeting": "hello"}
    with pytest.raises(InvalidArgument, match="argument 'port'"):
        async with opened(lab, "tcp", "nonsense"):
            pass


async def test_half_close_is_carried(exporter: Exporter, lab: AsyncLab) -> None:
    """A server that answers only after the end of its input gets that end, and its answer arrives."""

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(len(await reader.read())).encode())
        writer.close()

    async with tcp_server(count) as port, opened(lab, "tcp", port) as stream:
        assert not stream.messages
        await stream.send(b"x" * 1_000_000)
        await stream.send_eof()
        assert b"".join([part async for part in stream]) == b"1000000"


async def test_closing_delivers_what_was_sent(exporter: Exporter, lab: AsyncLab) -> None:
    """`aclose` right after `send` loses nothing: the far end has it all and sees the end."""
    got = asyncio.get_running_loop().create_future()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.set_result(await reader.read())
        writer.close()

    data = secrets.token_bytes(500_000)
    async with tcp_server(collect) as port, opened(lab, "tcp", port) as stream:
        await stream.send(data)
        await stream.aclose()
        assert await got == data


async def test_a_far_end_that_breaks_is_a_reset(exporter: Exporter, lab: AsyncLab) -> None:
    """A TCP reset behind the driver is StreamReset here, with a reason, and never an end that looks clean."""

    async def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with tcp_server(slam) as port:
        with pytest.raises(StreamReset):
            async with opened(lab, "tcp", port) as stream:
                await stream.send(b"x")
                await stream.receive()
                await stream.receive()


async def test_what_came_before_a_reset_is_read_before_it(
    exporter: Exporter, lab: AsyncLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that refuses an upload answers and resets: the whole answer comes, then StreamReset."""
    answer = [secrets.token_bytes(200_000) for _ in range(15)]

    class Refusing(ByteStream):
        def __init__(self) -> None:
            self.rest = list(answer)

        async def receive(self, max_bytes: int = 65536) -> bytes:
            if self.rest:
                return self.rest.pop(0)
            raise anyio.BrokenResourceError

        async def send(self, item: bytes) -> None: ...

        async def send_eof(self) -> None: ...

        async def aclose(self) -> None: ...

    @asynccontextmanager
    async def tcp(port: int) -> AsyncIterator[Any]:
        yield Refusing()

    monkeypatch.setitem(vars(exporter.spec.root), "tcp", tcp)
    stream = await (await lab.exporter("bench")).open_stream_async("tcp", 1)
    received = b""
    with pytest.raises(StreamReset, match="the far end has closed"):
        while True:
            received += await stream.receive()
    assert received == b"".join(answer)


async def test_what_the_driver_raises_later_is_told(exporter: Exporter, lab: AsyncLab) -> None:
    """An error when the driver closes its end reaches nobody's data, but the call's statistics and the log."""
    async with opened(lab, "broken") as stream:
        await stream.send(b"x")
        assert await stream.receive() == b"x"


async def test_an_end_that_cannot_be_opened_is_an_error_of_the_opener(exporter: Exporter, lab: AsyncLab) -> None:
    """A refused connection is the driver's error, with its place, and no stream."""
    with pytest.raises(DriverOSError, match="tcp: "):
        async with opened(lab, "tcp", 1):
            pass


async def test_a_stream_is_not_called_and_a_call_is_not_streamed(exporter: Exporter, lab: AsyncLab) -> None:
    """Both mix-ups are refused in words that say what to do."""
    client = await lab.exporter("bench")
    with pytest.raises(InvalidArgument, match="this method is a byte stream: open it with stream"):
        await client.call_async("connect")
    with pytest.raises(InvalidArgument, match="this method is not a byte stream: call it"):
        async with client.stream_async("ping"):
            pass


async def test_a_reader_that_waits_holds_the_sender_back(exporter: Exporter, lab: AsyncLab) -> None:
    """Beyond the windows of both sides nothing more is taken from the device, and nothing is lost."""
    sent, enough = 0, False

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while not enough:
            writer.write(bytes(65536))
            sent += 65536
            await writer.drain()
        writer.close()

    async with tcp_server(flood) as port, opened(lab, "tcp", port) as stream:
        received, before = len(await stream.receive()), -1
        while sent != before:
            before = sent
            await (await lab.exporter("bench")).call_async("sleep", 0.2)
        assert sent < 4 * WINDOW
        enough = True
        received += sum([len(part) async for part in stream])
        assert received == sent


async def test_leaving_a_stream_ends_the_drivers_side(exporter: Exporter, lab: AsyncLab) -> None:
    """Closed, aborted by an exception or cancelled: the driver's context ends each time."""
    client = await lab.exporter("bench")
    async with opened(lab):
        pass
    with pytest.raises(ZeroDivisionError):
        async with opened(lab):
            raise ZeroDivisionError
    with anyio.move_on_after(0.3):
        async with opened(lab) as stream:
            await stream.receive()
    while await client.call_async("ended") < 3:
        pass
    assert not exporter.dispatcher.executor.streams._sessions


async def test_a_stream_of_a_dead_client_is_closed(
    exporter: Exporter, broker: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that vanished is noticed by the broker's word that nobody listens, and the driver's end is closed."""
    monkeypatch.setattr("jsnats.agent._bytes.SILENT_S", 0.2)
    monkeypatch.setattr("jsnats.agent._bytes.ABSENT_S", 0.5)
    async with connect_async(context=broker.context("tester")) as lab:
        client = await lab.exporter("bench")
        await client.open_stream_async()
    assert isinstance(exporter.spec.root.finished, int)
    await until_async(lambda: exporter.spec.root.finished)


async def test_a_stopped_exporter_resets_its_streams(exporter: Exporter, lab: AsyncLab) -> None:
    """When the agent goes, who reads gets StreamReset with the reason."""
    async with opened(lab) as stream:
        stopping = asyncio.ensure_future(exporter.stop())
        with pytest.raises(StreamReset, match="the exporter is stopping"):
            await stream.receive()
        await stopping


async def test_opening_has_its_time_limit(exporter: Exporter, lab: AsyncLab) -> None:
    """`options(timeout_s=...)` limits the opening, not the life of the stream."""
    client = (await lab.exporter("bench")).options(timeout_s=0.3)
    async with client.stream_async() as stream:
        await client.options(timeout_s=5).call_async("sleep", 0.5)
        await stream.send(b"still here")
        assert await stream.receive() == b"still here"


async def test_an_opening_that_takes_too_long_is_given_up(
    exporter: Exporter, lab: AsyncLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The opener gets DeadlineExceeded, and the driver's side is cancelled."""
    cancelled = asyncio.Event()

    @asynccontextmanager
    async def never(port: int) -> AsyncIterator[Any]:
        try:
            await asyncio.sleep(60)
            yield None
        finally:
            cancelled.set()

    monkeypatch.setitem(vars(exporter.spec.root), "tcp", never)
    client = (await lab.exporter("bench")).options(timeout_s=0.3)
    with pytest.raises(DeadlineExceeded, match="did not open within 0.3 s"):
        await client.open_stream_async("tcp", 1)
    await cancelled.wait()


async def test_garbage_among_the_bytes_changes_nothing(exporter: Exporter, lab: AsyncLab, broker: TestBroker) -> None:
    """Wrong positions, marks, versions, other users' messages and unknown sessions: dropped, and the stream goes on."""
    mallory = await open_connection(broker.context("mallory"))
    async with opened(lab) as stream:
        session = stream.pipe.subject.rpartition(".")[2]
        bulk = await lab.bulk.connection()
        good = chunk_headers(Chunk(0, b""))
        for change in ({h.OFFSET: "x"}, {h.MARK: "?"}, {h.VERSION: "9"}, {h.OFFSET: "99999999999"}, {"Nats-X": "1"}):
            bulk.push(stream.pipe.subject, b"garbage", good | change)
        bulk.push(stream.pipe.subject, b"", {h.VERSION: "1", h.ACK: "5"})
        bulk.push(stream.pipe.subject, b"", {h.VERSION: "1", h.ACK: "999999999 1"})
        bulk.push(up_subject("bench", "tester", "0" * 32), b"x", good)
        for subject in (up_subject("bench", "mallory", session), stream.pipe.subject):
            mallory.push(subject, b"forged", good)
        await mallory.flush()
        await stream.send(b"good")
        assert await stream.receive() == b"good"
    await mallory.close()


async def test_many_streams_run_side_by_side(exporter: Exporter, lab: AsyncLab) -> None:
    """Sixty streams at once, each with its own bytes."""

    async def echo(number: int) -> bool:
        async with opened(lab) as stream:
            data = number.to_bytes(4, "big") * 20_000
            await stream.send(data)
            return await stream.receive() == data

    assert all(await asyncio.gather(*(echo(number) for number in range(60))))


async def test_a_stream_that_is_opened_while_the_broker_is_away_opens_when_it_is_back() -> None:
    """Without a time limit the opener waits; the outage is no error of its own."""
    with running_broker(principals={"user": ["tester"], "exporter": ["bench"]}) as broker:
        spec = Spec(name="bench", root=Bench())
        async with (
            Exporter(spec, broker.context("bench")),
            connect_async(context=broker.context("tester")) as lab,
        ):
            async with opened(lab):
                pass
            client = await lab.exporter("bench")
            await asyncio.to_thread(broker.stop)
            while lab.connection.connected.is_set():
                await asyncio.sleep(0)
            opening = asyncio.ensure_future(client.open_stream_async())
            await asyncio.to_thread(broker.start)
            async with asyncio.timeout(30), await opening as stream:
                await stream.send(b"x")
                assert await stream.receive() == b"x"


async def test_boundaries_are_kept_from_the_first_byte_on(
    exporter: Exporter, lab: AsyncLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the driver sends travels over another connection than the word that its end is open, and may be sooner: a
    message in parts, and an empty one, are whole all the same."""
    sent = [secrets.token_bytes(600_000), b"", b"z"]
    begin = asyncio.Event()
    accepted = Session.accepted

    def late(session: Session, message: Message) -> None:
        async def wait() -> None:
            begin.set()
            while session.pipe.into.expected < 600_003:
                await asyncio.sleep(0)
            accepted(session, message)

        lab.connection.spawn(wait())

    @asynccontextmanager
    async def connect(greeting: str = "") -> AsyncIterator[Any]:
        async with StapledObjectStream(*anyio.create_memory_object_stream[bytes](8)) as stream:
            for message in sent:
                await stream.send(message)
            yield stream

    monkeypatch.setattr(Session, "accepted", late)
    monkeypatch.setitem(vars(exporter.spec.root), "connect", connect)
    async with opened(lab) as stream:
        assert [await stream.receive() for _ in sent] == sent


async def test_closing_delivers_what_was_sent_to_one_who_is_not_read(
    exporter: Exporter, lab: AsyncLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A far end that takes nothing before its answers are taken gets everything all the same: what nobody reads any
    more makes room."""
    sent = got = 0

    class Echo(StapledObjectStream[bytes]):
        async def send(self, item: bytes) -> None:
            nonlocal got
            await super().send(item)
            got += 1

    @asynccontextmanager
    async def connect(greeting: str = "") -> AsyncIterator[Any]:
        async with Echo(*anyio.create_memory_object_stream[bytes](1)) as stream:
            yield stream

    monkeypatch.setitem(vars(exporter.spec.root), "connect", connect)
    async with opened(lab) as stream:
        with anyio.move_on_after(1):
            while True:
                await stream.send(bytes(65536))
                sent += 1
        async with asyncio.timeout(5):
            await stream.aclose()
    assert got == sent


async def test_an_exporter_that_lost_its_name_resets_its_streams(exporter: Exporter, lab: AsyncLab) -> None:
    """Another agent serves the board: what this one still carries would reach the hardware beside it."""
    async with opened(lab) as stream:
        exporter._on_lost()
        with pytest.raises(StreamReset, match="another agent has taken over the name"):
            await stream.receive()


async def test_every_byte_once_while_both_ends_change_their_network(exporter: Exporter, lab: AsyncLab) -> None:
    """The client's and the exporter's connections break in turn, and together: an echo of 24 MiB with a half-close at
    its end arrives as it was sent."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def send(stream: DuplexStream) -> None:
        for start in range(0, len(data), 65536):
            await stream.send(data[start : start + 65536])
        await stream.send_eof()

    data = random.Random(1).randbytes(24 << 20)
    ends = [await lab.bulk.connection(), await exporter._bulk.connection()]
    turns = deque([ends[:1], ends[1:], ends, ends[:1], ends[1:], ends])
    received = bytearray()
    async with tcp_server(echo) as port, opened(lab, "tcp", port) as stream, asyncio.TaskGroup() as tasks:
        tasks.create_task(send(stream))
        async for part in stream:
            received += part
            if turns and len(received) > (7 - len(turns)) * (3 << 20):
                for connection in turns.popleft():
                    transport: Any = connection._client._transport
                    transport._io_writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    assert not turns
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_message_that_is_too_long_resets_its_stream(
    exporter: Exporter, lab: AsyncLab, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Whichever side it comes from: the client is told why, and the driver's end is closed at once."""
    monkeypatch.setattr("jsnats.sdk._pipe.MAX_MESSAGE", 2 << 20)

    @asynccontextmanager
    async def connect(greeting: str = "") -> AsyncIterator[Any]:
        async with StapledObjectStream(*anyio.create_memory_object_stream[bytes](8)) as stream:
            if way == "down":
                await stream.send(bytes(3 << 20))
            yield stream

    monkeypatch.setitem(vars(exporter.spec.root), "connect", connect)
    with pytest.raises(StreamReset, match="a message is over"):
        async with opened(lab) as stream:
            if way == "up":
                await stream.send(bytes(3 << 20))
            await stream.receive()
    async with asyncio.timeout(2):
        while exporter.dispatcher.executor.streams._sessions:
            await asyncio.sleep(0)
