"""What drivers log is published, whole and in order, without ever making a driver wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
from pydantic.dataclasses import dataclass

from jsnats.agent import Exporter, Spec, _outbox
from jsnats.agent._logs import BACKLOG, LINE
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.driver import Driver, export
from jsnats.schemas import DriverError, LogRecord
from jsnats.sdk import Connection, connect_async, open_connection, put_record, read_logs
from jsnats.testing import until_async


@dataclass(kw_only=True)
class Talker(Driver):
    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DynamicClient"

    @export
    def say(self, text: str, level: int = logging.INFO) -> None:
        self.logger.log(level, text)

    @export
    def crash(self, depth: int = 0, text: str = "bug") -> None:
        if depth:
            self.crash(depth - 1, text)
        raise KeyError(text)

    @export
    async def crash_on_the_loop(self) -> AsyncIterator[int]:
        yield 1
        self.crash()

    @export
    def refuse(self) -> None:
        raise ValueError("too much")

    @export
    def exhaust(self) -> None:
        next(iter(()))

    async def stop(self) -> None:
        self.logger.info("stopped")


@pytest.fixture(scope="module")
def own_broker() -> Iterator[TestBroker]:
    """A broker that these tests may stop."""
    with running_broker(principals={"user": ["reader"]}) as broker:
        yield broker


@pytest.fixture
async def reader(own_broker: TestBroker) -> AsyncIterator[Connection]:
    """A user's connection."""
    async with await open_connection(own_broker.context("reader")) as connection:
        yield connection


@dataclass(config={"arbitrary_types_allowed": True})
class Talking:
    """An exporter with a talker at its root and one at `dut.relay`."""

    exporter: Exporter
    relay: Talker

    @classmethod
    def on(cls, broker: TestBroker, name: str) -> Talking:
        """Let it in; each test has a name of its own."""
        broker.add("exporter", name)
        relay = Talker()
        root = Talker(children={"dut": Talker(children={"relay": relay})})
        return cls(Exporter(Spec(name=name, root=root), broker.context(name)), relay)

    async def stored(self, reader: Connection) -> list[LogRecord]:
        """What the lab has of it, without the goodbyes."""
        found = read_logs(reader, self.exporter.spec.name)
        return [record async for _, record in found if record.message != "stopped"]


async def test_a_line_is_stored_with_its_driver(own_broker: TestBroker, reader: Connection) -> None:
    """Time, level, place and text; a logger below a driver's own counts as the driver's."""
    talking = Talking.on(own_broker, "lines")
    async with talking.exporter:
        talking.relay.say("a\nb")
        talking.relay.logger.getChild("coil").warning("hot")
        talking.exporter.spec.root.logger.error("broken")
        talking.relay.logger.debug("detail")
    found = await talking.stored(reader)
    assert [(each.level, each.path, each.message) for each in found] == [
        ("INFO", "dut.relay", "a\nb"),
        ("WARNING", "dut.relay", "hot"),
        ("ERROR", "", "broken"),
    ]
    assert all(abs(each.time - time.time()) < 60 for each in found)


async def test_the_last_words_are_stored_too(own_broker: TestBroker, reader: Connection) -> None:
    """What a driver logs while it stops is published before the exporter leaves."""
    talking = Talking.on(own_broker, "goodbye")
    async with talking.exporter:
        pass
    found = [record.path async for _, record in read_logs(reader, "goodbye")]
    assert sorted(found) == ["", "dut", "dut.relay"]


async def test_other_handlers_see_what_their_level_admits(
    own_broker: TestBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """An agent that is quiet on its terminal stays quiet, although INFO is published; afterwards all is as before."""
    talking = Talking.on(own_broker, "quiet")
    async with talking.exporter:
        talking.relay.say("for the lab")
        talking.relay.say("for all", logging.WARNING)
        assert talking.relay.logger.name == "jsnats.driver.quiet.dut.relay"
    talking.relay.say("for nobody")
    talking.relay.say("for here", logging.WARNING)
    assert [each.message for each in caplog.records if "driver" in each.name] == ["for all", "for here"]


async def test_a_line_that_cannot_be_formatted_fails_nobody(
    own_broker: TestBroker, reader: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with any handler of logging: the driver goes on. A very long line is cut, an odd character replaced."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    talking = Talking.on(own_broker, "odd")
    async with talking.exporter:
        talking.relay.logger.info("%d", "no number")
        talking.relay.say("x" * (2 * LINE))
        talking.relay.say("\udcff")
    assert [each.message for each in await talking.stored(reader)] == ["x" * LINE, "?"]


async def test_a_fault_in_a_driver_is_logged_with_its_place(
    own_broker: TestBroker, reader: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, as the driver's, from its own code on: a method on a thread, a generator, what no future can hold. What a
    driver raises on purpose is for its caller alone."""
    talking = Talking.on(own_broker, "faulty")
    async with talking.exporter, connect_async(context=own_broker.context("reader")) as lab:
        client = await lab.exporter("faulty")
        for method in ("refuse", "crash", "exhaust"):
            with pytest.raises(DriverError):
                await client.dut.relay.call_async(method)
        with pytest.raises(DriverError):
            [item async for item in client.dut.relay.streamingcall_async("crash_on_the_loop")]
    crash, exhaust, loop = await talking.stored(reader)
    assert {(each.level, each.path) for each in (crash, exhaust, loop)} == {("ERROR", "dut.relay")}
    begin = f'crash failed\nTraceback (most recent call last):\n  File "{__file__}", line '
    assert crash.message.startswith(begin)
    assert "raise KeyError(text)" in crash.message
    assert crash.message.endswith("\nKeyError: 'bug'")
    assert "next(iter(()))" in exhaust.message
    assert "in crash_on_the_loop" in loop.message
    assert caplog.text.count("Traceback") == 4  # exhaust has a second one, the cause of the first


@pytest.mark.parametrize(("depth", "text"), [(500, "bug"), (1, "x" * 2 * LINE)])
async def test_a_long_traceback_keeps_what_matters(
    own_broker: TestBroker, reader: Connection, depth: int, text: str
) -> None:
    """A deep recursion or a dump for a message: the line that raised and the end of what it said are there."""
    talking = Talking.on(own_broker, f"long-{depth}")
    async with talking.exporter, connect_async(context=own_broker.context("reader")) as lab:
        with pytest.raises(DriverError):
            await (await lab.exporter(f"long-{depth}")).dut.relay.call_async("crash", depth, text)
    (found,) = await talking.stored(reader)
    assert len(found.message) < LINE
    assert "raise KeyError(text)" in found.message
    assert found.message.endswith(f"{text[-3:]}'")


async def test_nothing_is_lost_or_doubled_over_a_restart(own_broker: TestBroker, reader: Connection) -> None:
    """Lines logged while the broker is killed and comes back are stored once, in order."""
    talking = Talking.on(own_broker, "restart")
    async with talking.exporter:
        for number in range(400):
            talking.relay.say(str(number))
            await asyncio.sleep(0)  # lets some be on their way when it dies
            if number == 200:
                own_broker.kill()
        while len(await talking.stored(reader)) < 400:
            await asyncio.sleep(0.05)
    assert [each.message for each in await talking.stored(reader)] == [str(number) for number in range(400)]


async def test_a_lost_answer_doubles_nothing(
    own_broker: TestBroker, reader: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that was stored, but nobody could say so, is sent again and refused by its expected revision."""
    stored: list[str] = []

    async def put(connection: Connection, subject: str, body: bytes, **options: Any) -> int:
        revision = await put_record(connection, subject, body, **options)
        if subject.startswith("jsnats.log."):
            stored.append(subject)
            if len(stored) == 2:
                raise TimeoutError
        return revision

    monkeypatch.setattr(_outbox, "put_record", put)
    talking = Talking.on(own_broker, "unsure")
    async with talking.exporter:
        for number, text in enumerate(("one", "two", "three")):
            talking.relay.say(text)
            while len(stored) <= number:
                await asyncio.sleep(0)
    assert [each.message for each in await talking.stored(reader)] == ["one", "two", "three"]


async def test_an_outage_makes_nobody_wait(own_broker: TestBroker, reader: Connection) -> None:
    """While the broker is away the backlog keeps the newest lines and says how many are missing."""
    talking = Talking.on(own_broker, "outage")
    async with talking.exporter:
        talking.relay.say("before")
        await until_async(partial(talking.stored, reader))
        own_broker.stop()
        lines = 2 * BACKLOG // LINE
        for number in range(lines):
            talking.relay.say(f"{number} ".ljust(LINE, "x"))
        own_broker.start()
        while not (await talking.stored(reader))[-1].message.startswith(f"{lines - 1} "):
            await asyncio.sleep(0.05)
    first, *others = await talking.stored(reader)
    told = [each for each in others if "dropped" in each.message]
    kept = [int(each.message.split()[0]) for each in others if each not in told]
    assert first.message == "before"
    assert [(each.path, each.level) for each in told] == [("", "WARNING")]
    assert int(told[0].message.split()[0]) + len(kept) == lines
    assert kept[-1] == lines - 1
    assert 0 < len(kept) < lines


async def test_exporters_of_one_process_do_not_mix(own_broker: TestBroker, reader: Connection) -> None:
    """Two boards with a driver at the same place: each log has its own lines."""
    own_broker.add("exporter", "other")
    talking = Talking.on(own_broker, "first")
    twin = Talker()
    async with talking.exporter, Exporter(Spec(name="other", root=twin), own_broker.context("other")):
        talking.relay.say("mine")
        twin.say("his")
    assert [each.message for each in await talking.stored(reader)] == ["mine"]
    assert "his" in [record.message async for _, record in read_logs(reader, "other")]
