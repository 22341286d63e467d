"""Consoles: read from start to stop, recorded byte for byte, marked where something is missing."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from anyio.abc import ByteStream
from pydantic.dataclasses import dataclass

from jsnats.agent import Exporter, Spec, _recorder, _ring
from jsnats.agent.testing import AgentProcess
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.driver import Composite, Console, Driver, _console, export, methods_of
from jsnats.schemas import CONSOLE, DriverConnectionError, DriverError, console_subject, headers as h, watch_subject
from jsnats.sdk import AsyncLab, Message, connect_async, replay

names = (f"console-{number}" for number in itertools.count())


class Device(ByteStream):
    """What a console is connected to."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[bytes] = asyncio.Queue()
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if data := await self.says.get():
            return data
        raise anyio.EndOfStream

    async def send(self, item: bytes) -> None:
        self.heard.put_nowait(item)

    async def send_eof(self) -> None: ...

    async def aclose(self) -> None: ...


@dataclass(kw_only=True, eq=False)
class Spoken(Console):
    """A console whose device the test plays: `say` what it says, `lose` it."""

    present: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.opened = 0
        self.device = Device()
        self.ready = asyncio.Event()

    async def open(self) -> ByteStream:
        if not self.present:
            raise FileNotFoundError("unplugged")
        self.opened += 1
        self.device = Device()
        self.ready.set()
        return self.device

    async def say(self, data: bytes) -> None:
        """The device says it."""
        await self.ready.wait()
        self.device.says.put_nowait(data)

    async def lose(self) -> None:
        """The device is unplugged."""
        self.present = False
        self.ready.clear()
        self.device.says.put_nowait(b"")


class Switch(Driver):
    """Power as an interface has it."""

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DynamicClient"

    @export(marker="power-on")
    async def on(self) -> None:
        raise NotImplementedError

    @export
    async def cycle(self) -> None:
        await self.invoke(self.on)


class Relay(Switch):
    """Its decorator knows nothing of the marker. The board boots, and is heard, before `on` returns."""

    @export
    async def on(self) -> None:
        assert self.parent
        console = self.parent.children["serial"]
        assert isinstance(console, Spoken)
        before = (await console.status())["offset"]
        await console.say(b"boot")
        while (await console.status())["offset"] == before:
            await asyncio.sleep(0)


class Stored(NamedTuple):
    """A record of a console."""

    offset: int
    mark: str
    body: bytes
    sequence: int

    @property
    def told(self) -> dict[str, Any]:
        """The body of a marker."""
        return json.loads(self.body)  # type: ignore[no-any-return]


class Bench:
    """An exporter `name` with one console at its root, and what the broker has of it."""

    def __init__(self, lab: AsyncLab, name: str, path: str = "") -> None:
        self.lab = lab
        self.name = name
        self.subject = console_subject(name, path)
        self.live: asyncio.Queue[Message] = asyncio.Queue()

    async def stored(self) -> list[Stored]:
        """All records."""
        found = replay(self.lab.connection, CONSOLE.name, self.subject)
        return [_stored(message.headers or {}, message.data, sequence) async for sequence, message in found]

    async def call(self, path: str, method: str, *args: Any) -> Any:
        """Call a method of the driver at `path`, as `tester`."""
        client = await self.lab.exporter(self.name)
        return await (client.children[path] if path else client).call_async(method, *args)

    async def output(self) -> bytes:
        """What the console said, put together by offset; fails when two records overlap or something is missing."""
        whole = bytearray()
        for record in await self.stored():
            assert record.offset == len(whole) or record.mark
            whole += b"" if record.mark else record.body
        return bytes(whole)

    async def marks(self) -> list[str]:
        """The kinds of the markers."""
        return [record.mark for record in await self.stored() if record.mark]

    async def next(self, mark: str | None = None) -> Stored:
        """Wait for the next record, or the next with that marker ("" for output)."""
        async with asyncio.timeout(20):
            while True:
                message = await self.live.get()
                headers = message.headers or {}
                if mark is None or headers.get(h.MARK, "") == mark:
                    return _stored(headers, message.data, int(headers[h.SEQUENCE]))

    async def said(self, size: int) -> bytes:
        """Wait until so many bytes are stored in a row."""
        data = b""
        while len(data) < size:
            data += (await self.next("")).body
        return data


async def read_up_to(console: Console, offset: int) -> None:
    """Wait until the agent has read so far."""
    while (await console.status())["offset"] < offset:
        await asyncio.sleep(0)


def _stored(headers: dict[str, str], body: bytes, sequence: int) -> Stored:
    return Stored(int(headers[h.OFFSET]), headers.get(h.MARK, ""), body, sequence)


@asynccontextmanager
async def benched(
    broker: TestBroker, root: Driver, path: str = "", name: str = ""
) -> AsyncIterator[tuple[Bench, Exporter]]:
    """Host `root` and watch the console at `path`."""
    if not name:
        name = next(names)
        broker.add("exporter", name)
    async with connect_async(context=broker.context("tester")) as lab:
        bench = Bench(lab, name, path)
        await lab.connection.subscribe(watch_subject(name, path), bench.live.put)
        await lab.connection.flush()
        async with Exporter(Spec(name=name, root=root), broker.context(name)) as exporter:
            yield bench, exporter


@pytest.fixture
def own_broker() -> Iterator[TestBroker]:
    """A broker that the test may stop and kill."""
    with running_broker(principals={"user": ["tester"]}) as broker:
        yield broker


async def test_the_first_byte_goes_at_once(broker: TestBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long bytes may wait for others, the first one after a silence does not."""
    monkeypatch.setattr(_recorder, "PAUSE_S", 1.0)
    console = Spoken()
    async with benched(broker, console) as (bench, _):
        await bench.next("start")
        await asyncio.sleep(1.1)  # the silence
        await console.say(b"x")
        async with asyncio.timeout(0.9):
            assert (await bench.next("")).body == b"x"


async def test_bytes_in_a_row_share_a_message(broker: TestBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes within the pause is one message, sent when 4 KiB are there: not one message for each read."""
    monkeypatch.setattr(_recorder, "PAUSE_S", 15.0)
    console = Spoken()
    async with benched(broker, console) as (bench, exporter):
        await bench.next("start")
        for number in range(16):
            await console.say(b"b" * 256)
            await read_up_to(console, 256 * (number + 1))
            await exporter.connection.flush()
        await bench.said(3500)
        bodies = [record.body for record in await bench.stored() if not record.mark]
    assert len(bodies) == 1


async def test_every_byte_once_across_two_kills_of_the_broker(own_broker: TestBroker) -> None:
    """1 MiB said while the broker is killed twice is stored byte for byte, in order, nothing twice."""
    said = random.Random(7).randbytes(1 << 20)
    console = Spoken()
    own_broker.add("exporter", "bench")
    async with benched(own_broker, console, name="bench") as (bench, _), asyncio.TaskGroup() as tasks:
        for number, start in enumerate(range(0, len(said), 1 << 10)):
            await console.say(said[start : start + (1 << 10)])
            await asyncio.sleep(0.002)
            if number in (200, 700):
                tasks.create_task(asyncio.to_thread(own_broker.kill))
        async with asyncio.timeout(30):
            while len(got := await bench.output()) < len(said):
                await asyncio.sleep(0.05)
    assert hashlib.sha256(got).digest() == hashlib.sha256(said).digest()


async def test_an_answer_that_is_lost_stores_nothing_twice(broker: TestBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message whose acknowledgement never came is sent again, and found to be stored."""
    console = Spoken()
    async with benched(broker, console) as (bench, exporter):
        await bench.next("start")
        request, lost = exporter.connection.request, []

        async def losing(subject: str, *args: Any, **kwargs: Any) -> Message:
            answer = await request(subject, *args, **kwargs)
            if subject == bench.subject and not lost:
                lost.append(answer)
                raise TimeoutError
            return answer

        monkeypatch.setattr(exporter.connection, "request", losing)
        await console.say(b"once")
        await bench.said(4)
        await console.say(b"more")
        await bench.said(4)
        assert lost
        assert await bench.output() == b"oncemore"


async def test_an_outage_longer_than_the_ring_leaves_a_gap_that_says_how_much(
    own_broker: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest bytes and every marker survive, and the gap is exactly what is missing."""
    monkeypatch.setattr(_ring, "RING_BYTES", 100_000)
    console = Spoken()
    own_broker.add("exporter", "bench")
    said = random.Random(1).randbytes(400_000)
    async with benched(own_broker, console, name="bench") as (bench, _):
        await console.say(b"before")
        await bench.said(6)
        await asyncio.to_thread(own_broker.stop)
        for start in range(0, len(said), 1000):
            if start == 20_000:
                await read_up_to(console, 6 + start)
                await console.mark("early")
            await console.say(said[start : start + 1000])
        await read_up_to(console, 6 + len(said))
        await asyncio.to_thread(own_broker.start)
        records: list[Stored] = []
        async with asyncio.timeout(30):
            while not any(record.offset + len(record.body) >= 6 + len(said) for record in records if not record.mark):
                await asyncio.sleep(0.05)
                records = await bench.stored()  # the exporter may be back, and have published, before we are
    gap = next(record for record in records if record.mark == "gap")
    rest = b"".join(record.body for record in records if not record.mark and record.offset >= gap.offset)
    told = gap.told
    held = sum(len(record.body) for record in records if not record.mark and 6 <= record.offset < gap.offset)
    assert rest == said[gap.offset - 6 :]
    assert 0 < len(rest) <= 100_000
    assert told["bytes"] == gap.offset - 6 - held
    assert "early" in [record.told["text"] for record in records if record.mark == "mark"]
    assert f"{told['bytes']} bytes" in told["text"]


async def test_a_killed_agent_goes_on_where_the_record_ends(broker: TestBroker, tmp_path: Path) -> None:
    """After SIGKILL offsets go on, behind markers for the time that was not read and for the new start."""
    name = next(names)
    broker.add("exporter", name)
    speakers: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    path = tmp_path / "console"
    server = await asyncio.start_unix_server(lambda _, writer: speakers.put_nowait(writer), path)
    driver = "jsnats.agent.testing:SocketConsole"
    environment = {"JSNATS_TEST_CONSOLE": str(path)}
    async with connect_async(context=broker.context("tester")) as lab:
        bench = Bench(lab, name)
        await lab.connection.subscribe(watch_subject(name, ""), bench.live.put)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(*environment.popitem())
            for text in (b"one", b"two"):
                agent = await asyncio.to_thread(AgentProcess, name, broker.context_path(name), driver)
                speaker = await speakers.get()
                speaker.write(text)
                assert await bench.said(3) == text
                agent.kill()
                speaker.close()
        records = await bench.stored()
    server.close()
    assert [(record.offset, record.mark) for record in records] == [
        (0, "start"),
        (0, ""),
        (3, "gap"),
        (3, "start"),
        (3, ""),
    ]
    assert records[2].told["text"].endswith("not read: agent restarted")
    assert 0 <= records[2].told["seconds"] < 20


async def test_a_stopped_agent_says_so(broker: TestBroker) -> None:
    """The record of an agent that ends in good order ends with a marker, and the next one knows the gap exactly."""
    name = next(names)
    broker.add("exporter", name)
    console = Spoken()
    async with benched(broker, console, name=name):
        await console.say(b"one")
        await read_up_to(console, 3)
    async with benched(broker, Spoken(), name=name) as (bench, _):
        await bench.next("start")
        records = await bench.stored()
    assert [record.mark for record in records] == ["start", "", "closed", "gap", "start"]
    assert not records[3].told["text"].startswith("up to")


async def test_nothing_is_published_of_a_console_that_is_not_recorded(broker: TestBroker) -> None:
    """With record: false whoever is attached sees the bytes, and the broker none of them."""
    console = Spoken(record=False)
    async with benched(broker, console) as (bench, _):
        async with console.connect() as (stream, metadata):
            assert metadata == {"offset": 0, "record": False, "subject": ""}
            await console.say(b"secret")
            assert await stream.receive() == b"secret"
        await console.mark("secret")
        await bench.lab.connection.flush()
        assert await bench.stored() == []


async def test_off_the_record_leaves_two_markers_and_no_bytes(broker: TestBroker) -> None:
    """The bytes between are counted and not stored; whoever is attached sees them."""
    console = Spoken()
    async with benched(broker, console) as (bench, _):
        async with console.connect() as (stream, _):
            await bench.call("", "off_record")
            await console.say(b"hidden")
            assert await stream.receive() == b"hidden"
            await bench.call("", "off_record", False)
            await console.say(b"seen")
        await bench.said(4)
        records = (await bench.stored())[1:]
    assert [(record.offset, record.mark) for record in records] == [(0, "off-record"), (6, "on-record"), (6, "")]
    assert [record.told["user"] for record in records[:2]] == ["tester", "tester"]
    assert records[1].told["bytes"] == 6
    assert records[2].body == b"seen"


async def test_the_end_of_a_lease_ends_off_the_record(broker: TestBroker) -> None:
    """close() puts the console back on the record, once."""
    console = Spoken()
    async with benched(broker, console) as (bench, _):
        await console.off_record()
        await console.close()
        await console.close()
        await bench.next("on-record")
        assert await bench.marks() == ["start", "off-record", "on-record"]


async def test_power_on_leaves_a_marker_before_it_happens(broker: TestBroker) -> None:
    """By a call and by `invoke`, once each, ahead of what the board says; an override with its own decorator too."""
    console = Spoken()
    root = Composite(children={"power": Relay(), "serial": console})
    assert methods_of(Relay)["on"].marker == "power-on"
    async with benched(broker, root, "serial") as (bench, _):
        await bench.call("power", "on")
        await bench.call("power", "cycle")
        await bench.said(8)
        records = (await bench.stored())[1:]
    assert [(record.mark, record.offset) for record in records] == [
        ("power-on", 0),
        ("", 0),
        ("power-on", 4),
        ("", 4),
    ]
    assert records[0].told == {"text": "power-on: power.on by tester", "user": "tester"}


async def test_one_may_write(broker: TestBroker) -> None:
    """The second is refused and told how to watch; when the first has left, another may come."""
    console = Spoken()
    async with benched(broker, console):
        await console.ready.wait()
        async with console.connect() as (stream, _):
            await stream.send(b"ls\n")
            assert await console.device.heard.get() == b"ls\n"
            with pytest.raises(DriverError, match="--watch"):
                async with console.connect():
                    pass
            assert (await console.status())["writer"]
        async with console.connect():
            pass


async def test_a_device_that_is_lost_and_back_leaves_markers(
    broker: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is opened again when it is there; the attached writer stays, and is refused in between."""
    monkeypatch.setattr(_console, "FIRST_WAIT_S", 0.01)
    console = Spoken()
    async with benched(broker, console) as (bench, _), console.connect() as (stream, _):
        await console.say(b"one")
        assert await stream.receive() == b"one"
        await console.lose()
        closed = await bench.next("closed")
        assert "it closed" in closed.told["text"]
        with pytest.raises(DriverConnectionError, match="not there"):
            await stream.send(b"x")
        console.present = True
        await console.say(b"two")
        opened = await bench.next("open")
        assert await stream.receive() == b"two"
        assert (opened.offset, opened.told["seconds"] >= 0) == (3, True)
        assert await bench.marks() == ["start", "closed", "open"]


async def test_a_device_that_comes_later_does_not_hold_up_the_agent(
    broker: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter is up without it, says why it is not there, and reads it from its first byte on."""
    monkeypatch.setattr(_console, "FIRST_WAIT_S", 0.01)
    console = Spoken(present=False)
    async with benched(broker, console) as (bench, _):
        await bench.next("closed")
        status = await bench.call("", "status")
        assert (status["open"], status["reason"]) == (False, "unplugged")
        console.present = True
        await console.say(b"hello")
        assert await bench.said(5) == b"hello"


async def test_a_driver_that_breaks_is_opened_again(
    broker: TestBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in open() is logged with its traceback and does not end the reading."""

    class Broken(Spoken):
        async def open(self) -> ByteStream:
            if not self.opened:
                self.opened += 1
                raise RuntimeError("a bug")
            return await super().open()

    monkeypatch.setattr(_console, "FIRST_WAIT_S", 0.01)
    console = Broken()
    async with benched(broker, console) as (bench, _):
        await console.say(b"hello")
        assert await bench.said(5) == b"hello"
    assert "a bug" in caplog.text


async def test_a_client_that_never_reads_does_not_stop_the_recording(broker: TestBroker) -> None:
    """It is told where it fell behind, when it reads at last; the record has everything."""
    console = Spoken()
    async with benched(broker, console) as (bench, _), console.connect() as (stream, _):
        for _ in range(48):
            await console.say(bytes(65536))
        await bench.said(48 * 65536)
        with pytest.raises(DriverError, match=r"--since @\d+") as raised:
            for _ in range(48):
                await stream.receive()
        assert "1114112" in str(raised.value)  # the first chunk beyond 1 MiB
        await stream.send(b"still writes")
        assert await console.device.heard.get() == b"still writes"


async def test_a_full_store_is_waited_for(own_broker: TestBroker, caplog: pytest.LogCaptureFixture) -> None:
    """What the broker refuses is kept, said once in the log, and stored when there is room."""
    own_broker.add("exporter", "bench")
    said = random.Random(3).randbytes(20_000)
    console = Spoken()
    async with (
        benched(own_broker, console, name="bench") as (bench, _),
        connect_async(context=own_broker.context()) as admin,
    ):
        await bench.next("start")
        config = (await admin.connection.api(f"STREAM.INFO.{CONSOLE.name}"))["config"]
        full = config | {"discard": "new", "max_bytes": 3000}
        await admin.connection.api(f"STREAM.UPDATE.{CONSOLE.name}", full)
        await console.say(said)
        while "cannot be recorded now" not in caplog.text:
            await asyncio.sleep(0.01)
        await admin.connection.api(f"STREAM.UPDATE.{CONSOLE.name}", config)
        assert await bench.said(len(said)) == said
    assert caplog.text.count("cannot be recorded now") == 1


async def test_a_record_that_has_expired_is_gone_on_with(broker: TestBroker, caplog: pytest.LogCaptureFixture) -> None:
    """With nothing left of it in the store the next message is taken all the same, at the next offset."""
    console = Spoken()
    async with (
        benched(broker, console) as (bench, _),
        connect_async(context=broker.context()) as admin,
    ):
        await console.say(b"old")
        await bench.said(3)
        await admin.connection.api(f"STREAM.PURGE.{CONSOLE.name}", {"filter": bench.subject})
        await console.say(b"new")
        await bench.said(3)
        assert [(record.offset, record.body) for record in await bench.stored()] == [(3, b"new")]
    assert "recording" not in caplog.text


async def test_what_a_killed_agent_had_on_its_way_keeps_its_offsets(
    broker: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of our name that was stored after we looked moves ours behind it: no two bytes share an offset."""
    monkeypatch.setattr(_recorder, "FOREIGN_S", 0.01)
    console = Spoken()
    async with benched(broker, console) as (bench, exporter):
        await bench.next("start")
        await exporter.connection.request(bench.subject, b"late", headers={h.OFFSET: "0", h.TIME: "1"})
        await console.say(b"ours")
        await read_up_to(console, 4)
        await console.mark("behind")  # it waits in the ring while the first is on its way
        await bench.next("mark")
        records = (await bench.stored())[1:]
        assert [(record.offset, record.body) for record in records[:2]] == [(0, b"late"), (4, b"ours")]
        assert (records[2].mark, records[2].offset) == ("mark", 8)
        assert (await console.status())["offset"] == 8


async def test_a_marker_of_any_size_holds_nothing_up(broker: TestBroker) -> None:
    """What is too long for a line, or for a message, is cut, and what the device says after it is recorded."""
    console = Spoken()
    async with benched(broker, console) as (bench, _):
        await bench.call("", "mark", "x" * 2_000_000)
        assert (await bench.next("mark")).told["text"].startswith("xxx")
        await console.say(b"after")
        assert await bench.said(5) == b"after"


async def test_an_agent_that_lost_its_name_records_no_more(broker: TestBroker) -> None:
    """Its successor reads the device: two records of one console would mix."""
    console = Spoken()
    async with benched(broker, console) as (bench, exporter):
        await bench.next("start")
        exporter._on_lost()
        while exporter._recorders._tasks:
            await asyncio.sleep(0)
        await console.say(b"too late")
        await read_up_to(console, 8)
        await exporter.connection.flush()
        assert await bench.marks() == ["start"]
        assert await bench.output() == b""


def ring_of(blocks: int, size: int = _ring.BLOCK_BYTES) -> tuple[_ring.Ring, bytes]:
    """A ring with so many blocks, and their bytes."""
    ring, said = _ring.Ring(), random.Random(5).randbytes(blocks * size)
    for start in range(0, len(said), size):
        ring.add(start, start, said[start : start + size])
    return ring, said


def drained(ring: _ring.Ring) -> list[_ring.Block]:
    """All its blocks."""
    return [ring.take() for _ in iter(lambda: bool(ring), False)]


def test_what_memory_cannot_hold_goes_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks come back in order, few of them were in memory, and the files are closed when they are read."""
    made: list[Any] = []
    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **kwargs: made.append(real(**kwargs)) or made[-1])
    monkeypatch.setattr(_ring, "MEMORY_BYTES", 200_000)
    ring, said = ring_of(160)
    assert ring.memory < 600_000
    assert len(made) == 3
    assert b"".join(block.data for block in drained(ring)) == said
    assert (ring.size, ring.memory) == (0, 0)
    ring.close()
    assert all(file.closed for file in made)


def test_a_full_disk_costs_the_oldest(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without a disk memory must do: the newest stay, and the gap says what is gone."""

    def full(**_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setattr(_ring, "MEMORY_BYTES", 200_000)
    ring, said = ring_of(20)
    gap, *rest = drained(ring)
    assert gap.mark == "gap"
    assert b"".join(block.data for block in rest) == said[gap.offset :]
    assert json.loads(gap.data)["bytes"] == gap.offset
    assert 200_000 < len(said) - gap.offset < 400_000
    assert caplog.text.count("cannot be spooled") == 1


def test_a_board_that_says_little_for_long_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte each second makes many blocks; as long as there is a disk, only the size of the ring limits them."""
    monkeypatch.setattr(_ring, "MEMORY_BYTES", 10_000)
    ring = _ring.Ring()
    for number in range(1000):
        ring.add(number, number * 1000, b"x")
    blocks = drained(ring)
    assert [block.offset for block in blocks] == list(range(1000))
    ring.close()


def test_bytes_of_a_second_share_a_block() -> None:
    """So that the time of a record is right for all its bytes, a block takes no more than a second of them."""
    ring = _ring.Ring()
    for number, time_ms in enumerate((0, 999, 1000, 1500)):
        ring.add(number, time_ms, b"x")
    assert [(block.offset, block.time_ms, bytes(block.data)) for block in drained(ring)] == [
        (0, 0, b"xx"),
        (2, 1000, b"xx"),
    ]
