"""Reading consoles: the records are published here as an exporter publishes them, on a real broker with roles."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from jsnats.broker.testing import TestBroker, running_broker
from jsnats.client import Channel, ConsoleClient, ConsoleTimeout
from jsnats.client._expect import WINDOW, Patterns, Text
from jsnats.client._feed import Feed, Session
from jsnats.client._merge import Merge
from jsnats.common.exceptions import ConfigurationError
from jsnats.schemas import CONSOLE, NodeRecord, console_subject, headers as h, watch_subject
from jsnats.sdk import (
    AsyncLab,
    Connection,
    ConsoleReader,
    ConsoleRecord,
    Disconnected,
    Lab,
    connect,
    connect_async,
    open_connection,
    replay,
)
from jsnats.sdk._console_live import LIVE_BYTES, QUIET_S

_count = itertools.count(1)


class Device:
    """The exporter's side of one console: what the agent would publish."""

    def __init__(self, connection: Connection, path: str) -> None:
        self.connection = connection
        self.path = path
        self.offset = 0
        self.sent = bytearray()

    async def say(self, data: bytes, *, record: bool = True) -> None:
        """Publish output; without `record` it is only counted."""
        at, self.offset = self.offset, self.offset + len(data)
        if record:
            self.sent += data
            await self._publish(data, {h.OFFSET: str(at)})

    async def mark(self, kind: str, text: str = "") -> None:
        """Publish a marker."""
        await self._publish(json.dumps({"text": text or kind}).encode(), {h.MARK: kind, h.OFFSET: str(self.offset)})

    async def _publish(self, body: bytes, headers: dict[str, str]) -> None:
        headers[h.TIME] = str(int(time.time() * 1000))
        subject = console_subject("bench", self.path)
        while True:
            await self.connection.wait_connected()
            try:
                answer = await self.connection.request(subject, body, headers=headers, timeout_s=2.0)
            except Disconnected:
                if await self._stored(subject, headers):
                    return
                continue
            except (TimeoutError, ConnectionError):
                continue
            assert b'"error"' not in answer.data, answer.data
            return

    async def _stored(self, subject: str, headers: dict[str, str]) -> bool:
        """Whether a record without an answer is there: the agent would see it by the expected sequence."""
        lab = AsyncLab(self.connection)
        newest = await ConsoleReader(lab, "bench", self.path)._finder.newest()
        return newest is not None and newest.offset >= int(headers[h.OFFSET])


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A broker of this module; `bench` is an exporter, `alice` and `mallory` are users."""
    with running_broker(principals={"exporter": ["bench"], "user": ["alice", "mallory"], "viewer": ["vic"]}) as broker:
        yield broker


@pytest.fixture
async def exporter(broker: TestBroker) -> AsyncIterator[Connection]:
    """The exporter's connection."""
    async with await open_connection(broker.context("bench")) as connection:
        yield connection


@pytest.fixture
def device(exporter: Connection) -> Device:
    """A console that has said nothing yet."""
    return Device(exporter, f"dut.serial{next(_count)}")


@pytest.fixture
async def lab(broker: TestBroker) -> AsyncIterator[AsyncLab]:
    """A connection of alice."""
    async with connect_async(context=broker.context("alice")) as lab:
        yield lab


@pytest.fixture
def reader(lab: AsyncLab, device: Device) -> ConsoleReader:
    """Alice reads the device."""
    return ConsoleReader(lab, "bench", device.path)


def console_client(lab: AsyncLab, device: Device) -> ConsoleClient:
    """The client of the device's console."""
    return ConsoleClient(Channel(lab, "bench"), NodeRecord(path=device.path, client="", interface=""))


@pytest.fixture
def client(lab: AsyncLab, device: Device) -> ConsoleClient:
    """Alice's client of the device's console, for asyncio."""
    return console_client(lab, device)


async def read_until(records: AsyncGenerator[ConsoleRecord, None], size: int) -> bytes:
    """Take records until so many bytes have come."""
    data = b""
    while len(data) < size:
        data += (await anext(records)).data
    return data


async def replayed(reader: ConsoleReader, since: object = "start") -> list[ConsoleRecord]:
    """All that is stored."""
    return [record async for record in reader.replay(since)]  # type: ignore[arg-type]


def cut(lab: AsyncLab) -> None:
    """Break the connection, as a network does."""
    transport = lab.connection._client._transport
    assert transport is not None
    transport._io_writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that are no text."""
    return random.Random(seed).randbytes(size)


async def test_replay_then_follow_gives_every_byte_once(device: Device, reader: ConsoleReader) -> None:
    """A watcher that starts in the middle of a burst has all of it, in order, once."""
    data = noise(400_000)
    pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    half = asyncio.Event()

    async def burst() -> None:
        for number, piece in enumerate(pieces):
            await device.say(piece)
            if number == len(pieces) // 2:
                half.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(burst())
        await half.wait()
        async with aclosing(reader.follow("start")) as records:
            assert await read_until(records, len(data)) == data


@pytest.mark.timeout(120)
async def test_two_kills_of_the_broker(broker: TestBroker, device: Device, reader: ConsoleReader) -> None:
    """The broker is killed twice while a console talks: its watcher has every byte once, and is told of the outages."""
    data, links = noise(60_000), list[bool]()

    async def talk() -> None:
        for at in range(0, len(data), 100):
            await device.say(data[at : at + 100])
            if at in (15_000, 40_000):
                await asyncio.to_thread(broker.kill)

    async with asyncio.TaskGroup() as tasks, aclosing(reader.follow("start", links.append)) as records:
        tasks.create_task(talk())
        assert await read_until(records, len(data)) == data
    assert links == [False, True, False, True]


@pytest.mark.timeout(120)
async def test_what_is_said_while_the_watcher_is_away(broker: TestBroker, device: Device, lab: AsyncLab) -> None:
    """A watcher whose own connection breaks reads what it missed from the store, although nothing more comes."""
    reader = ConsoleReader(lab, "bench", device.path)
    async with aclosing(reader.follow("now")) as records:
        await device.say(b"before")  # the subscription is made by the first step, which this record ends
        waiting = asyncio.ensure_future(anext(records))
        while not lab.connection._subscriptions[1:]:
            await asyncio.sleep(0)
        await device.say(b"one")
        assert (await waiting).data in (b"before", b"one")
        cut(lab)
        await device.say(b"missed")
        async with asyncio.timeout(QUIET_S / 2):  # it looks at the store at once, not when it has been quiet for long
            assert await read_until(records, 6) in (b"onemissed", b"missed")


async def test_fifty_watchers(broker: TestBroker, device: Device) -> None:
    """50 watchers over 5 connections all have the same MiB, some from the start and some half way, in a few seconds."""
    data = noise(1 << 20)
    digest = hashlib.sha256(data).hexdigest()

    async def watch(lab: AsyncLab) -> str:
        async with aclosing(ConsoleReader(lab, "bench", device.path).follow("start")) as records:
            return hashlib.sha256(await read_until(records, len(data))).hexdigest()

    begin = time.monotonic()
    labs = [AsyncLab(await open_connection(broker.context("alice"))) for _ in range(5)]
    watching = [asyncio.ensure_future(watch(lab)) for lab in labs * 5]
    for at in range(0, len(data), 4096):
        await device.say(data[at : at + 4096])
        if at == len(data) // 2:
            watching += [asyncio.ensure_future(watch(lab)) for lab in labs * 5]
    assert set(await asyncio.gather(*watching)) == {digest}
    assert time.monotonic() - begin < 20
    for lab in labs:
        await lab.close()


async def test_a_slow_watcher_loses_nothing(device: Device, reader: ConsoleReader) -> None:
    """What is beyond the buffer of a watcher that does not read is read from the store, every byte once."""
    total = LIVE_BYTES + (2 << 20)
    block = noise(64 << 10)
    async with aclosing(reader.follow("start")) as records:
        await device.say(b"ready")
        assert (await anext(records)).data == b"ready"
        for _ in range(total // len(block)):
            await device.say(block)
        got = await read_until(records, total)
    assert hashlib.sha256(got).digest() == hashlib.sha256(block * (total // len(block))).digest()


async def test_from_boot(device: Device, reader: ConsoleReader) -> None:
    """`boot` begins at the last power-on marker, however much has been said since and by others."""
    await device.mark("power-on")
    await device.say(b"old")
    await device.mark("power-on", "power on by alice")
    for number in range(300):
        await device.say(b"%d\n" % number)
    found = await replayed(reader, "boot")
    assert (found[0].mark, found[0].text) == ("power-on", "power on by alice")
    assert b"".join(record.data for record in found) == b"".join(b"%d\n" % number for number in range(300))


async def test_no_boot_is_an_error(device: Device, reader: ConsoleReader) -> None:
    """Without a power-on marker `boot` is refused by a line that says what else to begin at."""
    await device.say(b"x")
    with pytest.raises(ConfigurationError, match="no marker power-on in what is stored; begin at a duration"):
        await replayed(reader, "boot")


async def test_from_a_marker(device: Device, reader: ConsoleReader) -> None:
    """A text begins at the last marker that has it, whatever stands before the text."""
    for number, text in enumerate(("first run", "second run", "other")):
        await device.mark("mark", text)
        await device.say(b"%d" % number)
    assert (await replayed(reader, "run"))[0].text == "second run"
    assert (await replayed(reader, "mark:first"))[0].text == "first run"


async def test_since_a_time(device: Device, reader: ConsoleReader) -> None:
    """A duration, a number and a time of day begin at what was stored since then."""
    await device.say(b"old")
    await asyncio.sleep(1.2)
    middle = time.time() - 0.5
    await device.say(b"new")
    assert [record.data for record in await replayed(reader, middle)] == [b"new"]
    assert [record.data for record in await replayed(reader, "1s")] == [b"new"]
    assert [record.data for record in await replayed(reader, "10m")] == [b"old", b"new"]
    assert [record.data for record in await replayed(reader, "1h30m")] == [b"old", b"new"]
    assert await replayed(reader, "2100-01-01T00:00") == []


async def test_from_an_offset(device: Device, reader: ConsoleReader) -> None:
    """`@n` begins at exactly that byte, in the middle of a message too, wherever it is."""
    for number in range(200):
        await device.say(b"%05d" % number)
        if number % 7 == 0:
            await device.mark("mark")
    for offset in (0, 1, 5, 499, 500, 501, 998, 999):
        found = await replayed(reader, f"@{offset}")
        assert b"".join(record.data for record in found) == bytes(device.sent[offset:])
        assert next(record.offset for record in found if record.data) == offset
    assert [record for record in await replayed(reader, "@1000") if record.data] == []


async def test_a_lost_part_is_shown(device: Device, reader: ConsoleReader) -> None:
    """Bytes that the store does not have are a marker that says how many; a gap that the exporter told of, its own."""
    await device.say(b"one")
    await device.say(b"12345", record=False)
    await device.say(b"two")
    await device.say(b"12345", record=False)
    await device.mark("gap", "12 s not read: agent restarted")
    await device.say(b"three")
    shown = [record.text or record.data for record in await replayed(reader)]
    assert shown == [b"one", "5 bytes are not stored any more", b"two", "12 s not read: agent restarted", b"three"]


async def test_unknown_and_broken_records(device: Device, exporter: Connection, reader: ConsoleReader) -> None:
    """An unknown marker is shown as its text, or its kind; what is no record at all is stepped over, stored or live."""
    subject = console_subject("bench", device.path)
    async with aclosing(reader.follow("start")) as records:
        await exporter.request(subject, b"no offset")
        for wrong in ("many", "-1", "9" * 400, "9" * 5000):
            await exporter.request(subject, b"x", headers={h.OFFSET: wrong})
        await exporter.request(subject, b"x", headers={h.OFFSET: "0", h.TIME: "9" * 400})
        await device.mark("tea-time", "a cup of tea")
        assert (await anext(records)).text == "a cup of tea"
        await exporter.request(subject, b"no offset")
        await exporter.request(subject, b"\xff{", headers={h.OFFSET: "0", h.MARK: "odd"})
        await exporter.request(subject, b'{"text": "\\ud800"}', headers={h.OFFSET: "0", h.MARK: "odd"})
        await device.say(b"on")
        assert [(await anext(records)).text for _ in range(2)] == ["odd", "odd"]
        assert (await anext(records)).data == b"on"


async def test_forged_messages_are_dropped(
    broker: TestBroker, device: Device, reader: ConsoleReader, lab: AsyncLab
) -> None:
    """What lacks the stamp of our stream, names another console or was bounced off JetStream is not shown."""
    target, subject = watch_subject("bench", device.path), console_subject("bench", device.path)
    good = {h.STREAM: "JSNATS_CONSOLE", h.SUBJECT: subject, h.SEQUENCE: "999999", "Nats-Last-Sequence": "0"}
    good |= {h.OFFSET: "0"}
    forged: tuple[dict[str, str], ...] = (
        {h.OFFSET: "0"},
        good | {h.STREAM: "JSNATS_BLOBS"},
        good | {h.SUBJECT: f"{subject}.other"},
        good | {h.SUBJECT: f"{subject},{subject}"},
    )
    blob = f"jsnats.blob.{'0' * 64}.{next(_count)}"
    mallory, admin = await open_connection(broker.context("mallory")), await open_connection(broker.context())
    seen: list[object] = []
    spy = await lab.connection.listen(target, seen.append)
    await lab.connection.flush()
    async with aclosing(reader.follow("start")) as records:
        await device.say(b"a")
        assert (await anext(records)).data == b"a"
        for headers in forged:
            await admin.publish(target, b"forged", headers=headers)  # as if a bounce had these headers
        await admin.flush()
        await mallory.request(blob, b"forged", headers=good)
        await mallory.publish(f"$JS.API.DIRECT.GET.JSNATS_BLOBS.{blob}", b"", reply=target)
        await mallory.flush()
        while len(seen) < 2 + len(forged):
            await asyncio.sleep(0.01)
        await device.say(b"b")
        assert (await anext(records)).data == b"b"
    await spy.close()
    await mallory.close()
    await admin.close()


async def test_a_reader_that_pauses(
    broker: TestBroker, device: Device, lab: AsyncLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who pauses for longer than the broker keeps its consumer gets the rest from a new one."""
    monkeypatch.setattr("jsnats.sdk._replay.IDLE_S", 0.1)
    for number in range(7):
        await device.say(b"%d" % number)
    admin = await open_connection(broker.context())
    stored = replay(lab.connection, CONSOLE.name, console_subject("bench", device.path), batch=2)
    async with aclosing(stored):
        got = [(await anext(stored))[1].data, (await anext(stored))[1].data]
        while (await admin.api("STREAM.INFO.JSNATS_CONSOLE"))["state"]["consumer_count"]:
            await asyncio.sleep(0.05)
        got += [message.data async for _, message in stored]
    assert b"".join(got) == b"0123456"
    await admin.close()


async def test_a_replaced_store_is_noticed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """When the broker comes back with an empty store, the watcher says so and goes on with the new one."""
    with running_broker(principals={"exporter": ["bench"], "user": ["alice"]}) as broker:
        exporter = await open_connection(broker.context("bench"))
        admin = await open_connection(broker.context())
        device = Device(exporter, "serial")
        async with connect_async(context=broker.context("alice")) as lab:
            reader = ConsoleReader(lab, "bench", "serial")
            for text in (b"a", b"b", b"c"):
                await device.say(text)
            async with aclosing(reader.follow("start")) as records:
                assert await read_until(records, 3) == b"abc"
                info = await admin.api("STREAM.INFO.JSNATS_CONSOLE")
                await admin.api("STREAM.DELETE.JSNATS_CONSOLE")
                await admin.api("STREAM.CREATE.JSNATS_CONSOLE", info["config"])
                await device.say(b"d")
                cut(lab)
                assert [(await anext(records)).mark, (await anext(records)).data] == ["lost", b"d"]
        await admin.close()
        await exporter.close()


async def test_a_viewer_may_watch(broker: TestBroker, device: Device) -> None:
    """The viewer role reads and follows consoles."""
    async with connect_async(context=broker.context("vic")) as lab:
        await device.say(b"public")
        async with aclosing(ConsoleReader(lab, "bench", device.path).follow("start")) as records:
            assert (await anext(records)).data == b"public"


async def test_no_subscription_is_left(device: Device, lab: AsyncLab) -> None:
    """A watcher that ends leaves nothing behind on the connection."""
    before = (
        len(lab.connection._subscriptions),
        len(lab.connection.on_reconnect),
        len(lab.connection.replies._waiting),
    )
    await device.say(b"x")
    async with aclosing(ConsoleReader(lab, "bench", device.path).follow("start")) as records:
        await anext(records)
    after = (len(lab.connection._subscriptions), len(lab.connection.on_reconnect), len(lab.connection.replies._waiting))
    assert after == before


# ---------------------------------------------------------------------- a record and a session as one


def stored(offset: int, data: bytes) -> ConsoleRecord:
    """A record of the store."""
    return ConsoleRecord(sequence=1, offset=offset, time=0.0, data=data)


class Stream:
    """An open session, as far as a feed knows it."""

    def __init__(self, metadata: dict[str, object]) -> None:
        self.metadata = metadata
        self.says: asyncio.Queue[bytes] = asyncio.Queue()

    async def receive(self) -> bytes:
        return await self.says.get()

    async def send(self, data: bytes) -> None: ...

    async def aclose(self) -> None: ...


def told(records: list[ConsoleRecord]) -> list[tuple[int, bytes]]:
    """What they say."""
    return [(record.offset, record.data) for record in records]


def test_the_sooner_source_is_taken() -> None:
    """Bytes that both sources bring are shown once, from the one that was first, in part too."""
    merge = Merge(10)
    assert told(merge.live(10, b"abcd")) == [(10, b"abcd")]
    assert told(merge.stored(stored(10, b"abcdef"))) == [(14, b"ef")]
    assert told(merge.live(14, b"efgh")) == [(16, b"gh")]
    assert told(merge.stored(stored(16, b"gh"))) == []


def test_the_session_waits_for_the_past() -> None:
    """Bytes of a session that began later wait until the record has reached them."""
    merge = Merge()
    assert told(merge.live(6, b"now")) == []
    assert told(merge.stored(stored(0, b"pas"))) == [(0, b"pas")]
    assert told(merge.stored(stored(3, b"t, "))) == [(3, b"t, "), (6, b"now")]


def test_the_session_fills_what_is_off_the_record() -> None:
    """What the record leaves out is what the session has; what neither has is left out."""
    merge = Merge(0)
    merge.live(0, b"a")
    assert told(merge.live(3, b"c")) == []
    assert told(merge.stored(stored(5, b"e"))) == [(3, b"c"), (5, b"e")]
    assert told(merge.live(6, b"f")) == [(6, b"f")]


def test_nothing_is_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of a session that the record does not lead up to are shown after a while."""
    clock = 100.0
    monkeypatch.setattr("jsnats.client._merge.time.monotonic", lambda: clock)
    merge = Merge(0)
    assert merge.live(8, b"off the record") == []
    assert merge.overdue(110) == []  # the record is still being read: over a slow line that takes its time
    clock = 110.0
    merge.caught_up()
    assert merge.overdue(110.5) == []
    assert told(merge.overdue(111.5)) == [(8, b"off the record")]
    assert told(merge.live(22, b"on")) == [(22, b"on")]


def test_a_killed_agent_counts_again_from_its_record() -> None:
    """Bytes that a session brought and the record lost with the agent do not hide those that have their place now."""
    merge = Merge(10)
    assert told(merge.live(10, b"abcd")) == [(10, b"abcd")]
    merge.stored(ConsoleRecord(sequence=1, offset=12, time=0.0, mark="start", text="the agent began to read"))
    assert told(merge.live(12, b"new")) == [(12, b"new")]


@pytest.mark.parametrize("recorded", [True, False])
async def test_a_slow_taker_loses_nothing_of_a_session(
    device: Device, reader: ConsoleReader, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    """What does not fit is left to the record, and of a console without one to the exporter, which waits."""
    monkeypatch.setattr("jsnats.client._feed.LIMIT", 1000)
    feed = await Feed.open(reader, "start")
    stream = Stream({"offset": 0, "subject": "there" if recorded else ""})
    feed.attach(Session(stream), lambda why: None)  # type: ignore[arg-type]
    parts = [noise(600, number) for number in range(10)]
    for part in parts:
        stream.says.put_nowait(part)
        if recorded:
            await device.say(part)
    await reader._connection.flush()
    heard = b""
    async with asyncio.timeout(10):
        while len(heard) < 6000:
            heard += b"".join(record.data for record in await feed.take())
    assert heard == b"".join(parts)
    await feed.close()


async def test_what_expect_has_heard_is_read_and_searched(device: Device, lab: AsyncLab) -> None:
    """The session is sooner than the record: `read` and `search` wait for it to have what the conversation saw."""
    stream = Stream({"offset": 0, "subject": "there"})

    class Open(ConsoleClient):
        async def open_stream_async(self, *args: object) -> Stream:  # type: ignore[override]
            return stream

    client = Open(Channel(lab, "bench"), NodeRecord(path=device.path, client="", interface=""))
    await device.mark("start")
    await client.send_async("x")
    stream.says.put_nowait(b"login: ")
    await client.expect_async("login: ")
    recording = asyncio.get_running_loop().call_later(0.1, lambda: asyncio.ensure_future(device.say(b"login: ")))
    assert await client.read_async() == b"login: "
    assert [each[0] for each in await client.search_async("log..")] == ["login"]
    await device.mark("off-record")
    stream.says.put_nowait(b"secret")
    await client.expect_async("secret")
    async with asyncio.timeout(0.5):
        assert await client.read_async() == b"login: "
    recording.cancel()
    await client.close_async()


# ---------------------------------------------------------------------- expect and search


async def test_expect_finds_the_past(device: Device, client: ConsoleClient) -> None:
    """A pattern that was said before is found with `since`, with its groups, offset and what stood before it."""
    await device.mark("power-on")
    await device.say(b"U-Boot 2026.01\r\nlogin: ")
    found = await client.expect_async(r"U-Boot (\d+)\.(?P<minor>\d+)", since="boot")
    assert (found[0], found.groups(), found["minor"]) == ("U-Boot 2026.01", ("2026", "01"), "01")
    assert (await client.expect_async("login: ")).before == "\r\n"
    assert (await client.expect_async(b"log(in)", since="start")).group(1) == b"in"


async def test_expect_over_two_messages(device: Device, client: ConsoleClient) -> None:
    """A pattern cut into two messages is found, the second being live, with the offset of its first byte."""
    await device.say(b"Ubuntu 26.04 lo")
    waiting = asyncio.ensure_future(client.expect_async("login:", since="start"))
    await device.say(b"gin: ")
    assert (await waiting).offset == 13


def test_what_is_forgotten() -> None:
    """Of a long text without a match the last WINDOW bytes are kept, so a pattern that comes in two parts is found."""
    text, patterns = Text(), Patterns("lo(gin):")
    text.add(stored(0, b"x" * 3 * WINDOW + b"lo"))
    assert text.find(patterns) is None
    text.add(stored(3 * WINDOW + 2, b"gin: "))
    found = text.find(patterns)
    assert found is not None
    assert (found.offset, found.before, found[1]) == (3 * WINDOW, "x" * (WINDOW - 2), "gin")


async def test_expect_one_of_several(device: Device, client: ConsoleClient) -> None:
    """Of several patterns the one that comes first in the output wins, and `index` says which."""
    await device.say(b"Kernel panic - not syncing\nlogin: ")
    found = await client.expect_async(["login: ", "panic", b"never"], since="start")
    assert (found.index, found.group()) == (1, "panic")
    assert (await client.expect_async(["never", "login: "])).index == 1


async def test_expect_goes_on_behind_a_match(device: Device, client: ConsoleClient) -> None:
    """The same output does not match twice."""
    await device.say(b"1 2 3")
    found = [(await client.expect_async(r"\d", since="start" if first else None))[0] for first in (True, False, False)]
    assert found == ["1", "2", "3"]


async def test_expect_times_out_with_what_was_seen(device: Device, client: ConsoleClient) -> None:
    """The error is a TimeoutError that shows the pattern, the last output and that the exporter is gone."""
    await device.say(b"x" * 5000 + b"grub rescue> ")
    with pytest.raises(ConsoleTimeout, match="no 'login:' within 0.3 s; the last it said: .*grub rescue> '; exporter"):
        await client.expect_async("login:", timeout=0.3, since="start")
    with pytest.raises(TimeoutError, match="no 'never'.*it said nothing"):
        await client.expect_async("never", timeout=0.2, since="now")
    await device.mark("closed", "device lost: unplugged")
    with pytest.raises(ConsoleTimeout):
        await client.expect_async("login:", timeout=0.3)


async def test_expect_in_binary_garbage(device: Device, client: ConsoleClient) -> None:
    """A pattern is found behind a megabyte that is no text."""
    for block in range(16):
        await device.say(noise(64 << 10, block))
    await device.say(b"=> ")
    assert (await client.expect_async("=> $", since="start")).offset == 1 << 20


async def test_expect_survives_a_kill_of_the_broker(broker: TestBroker, device: Device, client: ConsoleClient) -> None:
    """An expect that waits while the broker is killed sees what is said afterwards."""
    await device.say(b"booting")
    await client.expect_async("booting", since="start")
    waiting = asyncio.ensure_future(client.expect_async("done"))
    await asyncio.to_thread(broker.kill)
    await device.say(b"done")
    assert (await waiting).group() == "done"


async def test_a_wrong_pattern_is_named(client: ConsoleClient) -> None:
    """What is no regular expression is refused at once."""
    with pytest.raises(ConfigurationError, match="'\\(' is no regular expression"):
        await client.expect_async("(")


async def test_search(device: Device, client: ConsoleClient) -> None:
    """All matches in the record, each with time and offset, also one that is cut into messages."""
    for number in range(2000):
        await device.say(b"line %d er" % number)
        if number % 100 == 99:
            await device.say(b"ror %d\n" % number)
    begin = time.time()
    found = await client.search_async(r"error (\d+)")
    assert [each[1] for each in found] == [str(number) for number in range(99, 2000, 100)]
    assert all(bytes(device.sent[each.offset :]).startswith(b"error " + each[1].encode()) for each in found)
    assert all(begin - 60 < each.time <= begin for each in found)


def test_the_sync_side(broker: TestBroker) -> None:
    """`watch`, `read`, `search` and `expect` do the same from sync code."""
    with connect(context=broker.context("alice")) as lab, connect(context=broker.context("bench")) as bench:
        run = bridge(bench)
        device = Device(bench.inner.connection, f"dut.serial{next(_count)}")
        client = console_client(lab.inner, device)
        run(device.say(b"hello "))
        watched = client.watch("start")
        assert next(watched).data == b"hello "
        run(device.say(b"world"))
        assert next(watched).data == b"world"
        watched.close()
        assert client.read() == b"hello world"
        assert client.search("o")[1].offset == 7
        assert client.expect("wor", since="10m").group() == "wor"
        client.close()


def bridge(lab: Lab):  # type: ignore[no-untyped-def]
    """Runs coroutines on the loop of a sync lab."""
    assert lab.inner.bridge
    return lab.inner.bridge.run
