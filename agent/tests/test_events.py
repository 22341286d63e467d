"""What happens at an exporter becomes events: stored once the broker can, without making anybody wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from enum import Enum, StrEnum
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic.dataclasses import dataclass

from jsnats.agent import Exporter, Spec, _audit
from jsnats.agent._events import BACKLOG
from jsnats.agent.testing import Bench, SocketConsole
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.driver import Driver, export
from jsnats.schemas import EVENTS, CallError, Event, InvalidName
from jsnats.sdk import AsyncLab, Connection, connect_async, open_connection, replay


class Edge(Enum):
    rising = 1


class Color(StrEnum):
    red = "red"


@dataclass(kw_only=True)
class Door(Driver):
    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DynamicClient"

    @export
    async def open_slowly(self) -> None:
        self.emit("opened", angle=90, fast=False)

    @export
    def open_fast(self) -> None:
        thread = threading.Thread(target=self.emit, args=("opened",), kwargs={"fast": True})
        thread.start()
        thread.join()

    @export
    async def unlock(
        self, pin: str, secret: SecretStr, raw: bytes, times: int, hold: float, edge: Edge, color: Color, force: bool
    ) -> str:
        return f"token of {pin}"

    @export
    async def say(self, *words: str, **more: Any) -> None:
        """Take anything."""

    @export
    async def jam(self, why: str) -> None:
        raise ValueError(f"jammed: {why}")

    @export
    async def creak(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture(scope="module")
def own_broker() -> Iterator[TestBroker]:
    """A broker that these tests may stop."""
    with running_broker(principals={"user": ["ann"]}) as broker:
        yield broker


@pytest.fixture
async def reader(own_broker: TestBroker) -> AsyncIterator[Connection]:
    """A user's connection."""
    async with await open_connection(own_broker.context("ann")) as connection:
        yield connection


@pytest.fixture
async def lab(own_broker: TestBroker) -> AsyncIterator[AsyncLab]:
    """The lab of that user."""
    async with connect_async(context=own_broker.context("ann")) as lab:
        yield lab


def hosting(broker: TestBroker, name: str, root: Driver) -> Exporter:
    """An exporter that is let in; each test has a name of its own."""
    broker.add("exporter", name)
    return Exporter(Spec(name=name, root=root), broker.context(name))


async def stored(reader: Connection, exporter: str, type_: str = ">") -> list[Event]:
    """The events that the lab has of an exporter, each once."""
    found = replay(reader, EVENTS.name, f"jsnats.event.{exporter}.{type_}")
    events = [Event.decode(message.data) async for _, message in found]
    return list({event.id: event for event in events}.values())


async def awaited(reader: Connection, exporter: str, type_: str, count: int) -> list[Event]:
    """As `stored`, when there are so many."""
    while len(found := await stored(reader, exporter, type_)) < count:
        await asyncio.sleep(0.02)
    return found


async def test_a_driver_emits_from_async_code_and_from_a_thread(
    own_broker: TestBroker, reader: Connection, lab: AsyncLab
) -> None:
    """The event has the exporter as its source and the driver's path as its subject."""
    door = Door()
    async with hosting(own_broker, "emits", Composite(door)):
        tree: Any = await lab.exporter("emits")
        await tree.front.door.call_async("open_slowly")
        await tree.front.door.call_async("open_fast")
    found = await stored(reader, "emits", "driver.>")
    assert [(each.source, each.type, each.subject, each.data) for each in found] == [
        ("emits", "driver.opened", "front.door", {"angle": 90, "fast": False}),
        ("emits", "driver.opened", "front.door", {"fast": True}),
    ]


def Composite(door: Door) -> Driver:  # noqa: N802 - a tree, as the real one
    """The door two levels down."""
    return Door(children={"front": Door(children={"door": door})})


def test_what_cannot_be_an_event_is_refused_where_it_is_emitted() -> None:
    """Also without an exporter: a unit test finds it. Else nothing happens there."""
    door = Door()
    door.emit("opened", angle=1.5, name="front", at=None)
    with pytest.raises(InvalidName, match="dotted lower-case words"):
        door.emit("Opened it")
    with pytest.raises(TypeError, match="SecretStr is a secret"):
        door.emit("opened", pin=SecretStr("1234"))
    with pytest.raises(TypeError, match="type object cannot travel"):
        door.emit("opened", by=object())
    with pytest.raises(ValueError, match="the limit is 65536"):
        door.emit("opened", picture="x" * 100_000)


async def test_what_is_emitted_before_the_start_and_while_stopping_is_stored(
    own_broker: TestBroker, reader: Connection
) -> None:
    """It waits for the exporter to have its name; the last words are stored before it leaves."""

    @dataclass(kw_only=True)
    class Eager(Door):
        async def start(self) -> None:
            self.emit("started")

        async def stop(self) -> None:
            self.emit("stopped")

    root = Eager()
    exporter = hosting(own_broker, "eager", root)
    root.emit("waiting")
    async with exporter:
        exporter.events("hook.started", {"hook": "beforeLease"})
    assert [each.type for each in await stored(reader, "eager")] == [
        *("driver.waiting", "driver.started", "exporter.online", "hook.started"),
        *("exporter.offline", "driver.stopped"),
    ]


async def test_a_wrong_event_of_the_agents_own_fails_nobody(
    own_broker: TestBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a fault of ours: logged, not raised in whatever was going on."""
    exporter = hosting(own_broker, "wrong", Door())
    exporter.events("No Type", {})
    exporter.events("fine", {"what": object()})
    assert len([each for each in caplog.records if "an event that cannot be stored" in each.message]) == 2
    caplog.clear()


async def test_nothing_is_lost_over_a_killed_broker(own_broker: TestBroker, reader: Connection) -> None:
    """Events told while the broker dies and comes back are stored in order."""
    door = Door()
    async with hosting(own_broker, "killed", door):
        for number in range(300):
            door.emit("counted", number=number)
            await asyncio.sleep(0)
            if number == 150:
                await asyncio.to_thread(own_broker.kill)
        found = await awaited(reader, "killed", "driver.>", 300)
    assert [each.data["number"] for each in found] == list(range(300))


async def test_an_outage_keeps_the_newest_and_says_how_many_are_gone(
    own_broker: TestBroker, reader: Connection
) -> None:
    """Beyond 4 MiB the oldest go; nobody waits; an event has their number."""
    door = Door()
    async with hosting(own_broker, "outage", door) as exporter:
        own_broker.stop()
        while exporter.connection.connected.is_set():
            await asyncio.sleep(0.01)
        begin, total = time.monotonic(), 2 * BACKLOG // 50_000
        for number in range(total):
            door.emit("filled", number=number, text="x" * 50_000)
        took = time.monotonic() - begin
        own_broker.start()
        (lost,) = await awaited(reader, "outage", "exporter.events-lost", 1)
        kept: list[Event] = []
        while not kept or kept[-1].data["number"] < total - 1:
            kept = await stored(reader, "outage", "driver.>")
    assert took < 5
    assert 0 < len(kept) < total
    assert lost.data == {"count": total - len(kept)}
    assert [each.data["number"] for each in kept] == list(range(total - len(kept), total))


async def test_calls_are_told_with_what_can_be_no_secret(
    own_broker: TestBroker, reader: Connection, lab: AsyncLab
) -> None:
    """Names and types of arguments, values of numbers, booleans and enums; no text, bytes, secret, result, call id."""
    async with hosting(own_broker, "audit", Composite(Door())):
        tree: Any = await lab.exporter("audit")
        door = tree.front.door
        await door.call_async("unlock", "hunter2", "sesame", b"raw!", 3, 0.5, 1, "red", force=True)
        await door.call_async("say", "hello", "world")
        await door.call_async("say", whispered="quiet", loud=False)
        with pytest.raises(CallError):
            await door.call_async("jam", "a spanner")
    unlocked, said, jammed, whispered = events = await stored(reader, "audit", "call.>")
    assert (unlocked.type, unlocked.subject) == ("call.finished", "front.door")
    assert unlocked.data.pop("seconds") > 0
    assert unlocked.data == {
        "user": "ann",
        "method": "unlock",
        "arguments": {
            "pin": {"type": "str"},
            "secret": {"type": "SecretStr"},
            "raw": {"type": "bytes"},
            "times": {"type": "int", "value": 3},
            "hold": {"type": "float", "value": 0.5},
            "edge": {"type": "Edge", "value": 1},
            "color": {"type": "Color", "value": "red"},
            "force": {"type": "bool", "value": True},
        },
        "outcome": "ok",
        "error": "",
        "count": 1,
    }
    assert said.data["arguments"] == {"words[0]": {"type": "str"}, "words[1]": {"type": "str"}}
    assert whispered.data["arguments"] == {"whispered": {"type": "str"}, "loud": {"type": "bool", "value": False}}
    assert (jammed.data["outcome"], jammed.data["error"]) == ("error", "DriverValueError")
    told = b"".join([each.encode() for each in events])
    for word in (b"hunter2", b"sesame", b"raw!", b"token", b"hello", b"quiet", b"spanner"):
        assert word not in told


async def test_calls_of_one_kind_are_told_together(
    own_broker: TestBroker, reader: Connection, lab: AsyncLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first at once, those after it in one event with their number, and other outcomes apart."""
    monkeypatch.setattr(_audit, "TOGETHER_S", 1.0)
    async with hosting(own_broker, "together", Door()):
        door: Any = await lab.exporter("together")
        await door.call_async("say")
        assert len(await awaited(reader, "together", "call.>", 1)) == 1
        for _ in range(20):
            await door.call_async("say", loud=1)
        with pytest.raises(CallError):
            await door.call_async("jam", "")
        await awaited(reader, "together", "call.>", 3)
        for _ in range(5):
            await door.call_async("say", loud=2)
    found = await stored(reader, "together", "call.>")
    told = [(each.data["method"], each.data["count"], each.data["arguments"]) for each in found]
    loud = [(method, count, arguments["loud"]["value"]) for method, count, arguments in told if "loud" in arguments]
    assert told[0] == ("say", 1, {})
    assert ("jam", 1, {"why": {"type": "str"}}) in told
    assert loud == [("say", 20, 1), ("say", 5, 2)]


async def test_a_long_call_is_told_when_it_has_run_for_a_second(
    own_broker: TestBroker, reader: Connection, lab: AsyncLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`call.started` stands before its end; a short call has none; a cancelled one says so."""
    monkeypatch.setattr(_audit, "LONG_S", 0.3)
    async with hosting(own_broker, "long", Door()):
        door: Any = await lab.exporter("long")
        await door.call_async("creak", 0.0)
        slow = asyncio.ensure_future(door.call_async("creak", 50.0))
        (started,) = await awaited(reader, "long", "call.started", 1)
        slow.cancel()
        ended = (await awaited(reader, "long", "call.finished", 2))[-1]
        begin = time.monotonic()
        for _ in range(2):  # each has an end of its own: nobody waits ten seconds for it
            await door.call_async("creak", 1.0)
        alone = (await awaited(reader, "long", "call.finished", 4))[2:]
        took = time.monotonic() - begin
    assert [each.data["count"] for each in alone] == [1, 1]
    assert took < _audit.TOGETHER_S
    assert started.data == {
        "user": "ann",
        "method": "creak",
        "arguments": {"seconds": {"type": "float", "value": 50.0}},
    }
    assert ended.data["outcome"] == "cancelled"


async def test_markers_of_consoles_are_events(
    own_broker: TestBroker, reader: Connection, lab: AsyncLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With kind, text, offset and the user who left them."""
    monkeypatch.setenv("JSNATS_TEST_CONSOLE", "nowhere")
    async with hosting(own_broker, "marks", Bench(children={"serial": SocketConsole()})):
        tree: Any = await lab.exporter("marks")
        await tree.serial.call_async("mark", "flashing now")
    found = await stored(reader, "marks", "console.marker")
    assert {each.subject for each in found} == {"serial"}
    assert found[0].data == {"marker": "start", "text": found[0].data["text"], "offset": 0}
    assert {"marker": "mark", "text": "flashing now", "offset": 0, "user": "ann"} in [each.data for each in found]
