"""`jsnats events`, `logs` and `history`: what they print."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import Event, LogRecord, NodeRecord, TreeRecord, log_subject, tree_key
from jsnats.sdk import Context, StoredEvent, connect, open_connection, put_record, store_event
from jsnats.sdk.cli._event_words import words
from jsnats.sdk.cli._main import app
from jsnats.sdk.cli._story import lines, tell

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are shown in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def event(second: float, type_: str, subject: str = "", **data: Any) -> StoredEvent:
    """An event of bench-1, that many seconds later."""
    return StoredEvent(source="bench-1", type=type_, subject=subject, data=data, stored=NOW + second)


def call(
    second: float, method: str, user: str = "ann", count: int = 1, error: str = "", seconds: float = 0.01
) -> StoredEvent:
    """A call that has ended."""
    path, _, name = method.rpartition(".")
    outcome = "error" if error else "ok"
    data = {"user": user, "method": name, "arguments": {}, "outcome": outcome, "error": error, "count": count}
    return event(second, "call.finished", path, seconds=seconds, **data)


LEASE: Any = {"id": "6f2a9d0c11e38b47", "holder": "ann", "epoch": 42}
SCRIPT = [
    event(0, "exporter.online", host="rack-2", version="0.1.0", instance="ab"),
    event(60, "lease.granted", **LEASE, end=NOW + 1860, boards=["bench-1"], waited=125.0),
    event(61, "hook.started", hook="beforeLease", lease=LEASE["id"]),
    event(63, "hook.finished", hook="beforeLease", lease=LEASE["id"], code=0, seconds=2.0, outcome="ok"),
    event(63.1, "lease.ready", **LEASE),
    call(64, "power.cycle"),
    event(64, "console.marker", "serial", marker="power-on", text="power-on: power.cycle by ann", offset=0, user="ann"),
    call(74, "power.cycle", count=2),
    call(80, "storage.flash", error="DriverTimeout"),
    event(90, "console.marker", "serial", marker="mark", text="second try", offset=512, user="ann"),
    event(91, "call.started", "storage", user="ann", method="flash", arguments={"image": {"type": "str"}}),
    event(95, "driver.overheated", "power", temperature=91.0),
    event(96, "driver.overheated", "power", temperature=93.0),
    call(120, "storage.flash", seconds=30.0),
    call(121, "status", user="bob"),
    event(130, "exporter.online", host="rack-2", version="0.1.0", instance="cd"),
    event(200, "lease.extended", **LEASE, by="ann", end=NOW + 3600),
    event(660, "lease.ended", **LEASE, reason="released", by="ann", held=600.0),
    event(661, "hook.finished", hook="afterLease", lease=LEASE["id"], code=1, seconds=0.5, outcome="failed"),
    event(662, "lease.torn-down", **LEASE, reason="released", seconds=1.5),
    call(700, "power.on", user="bob"),
    event(710, "exporter.disabled", by="admin", comment="fan is broken"),
    event(800, "lease.granted", id="77", holder="carl", epoch=50, end=0, boards=["bench-1"], waited=0.0),
    event(801, "call.started", "storage", user="carl", method="flash", arguments={}),
]


def test_a_story_of_an_afternoon() -> None:
    """Who held it, from when to when, why it ended; calls aggregated, markers, restarts, hooks, what drivers told."""
    assert list(lines(tell(SCRIPT))) == [
        "2027-01-15 08:00:00  online on rack-2, version 0.1.0",
        "2027-01-15 08:01:00  ann holds it, after a wait of 2m5s",
        "2027-01-15 08:01:03    hook beforeLease ok after 2s",
        "2027-01-15 08:01:04    power.cycle x3",
        "2027-01-15 08:01:20    storage.flash (failed: DriverTimeout)",
        "2027-01-15 08:01:30    serial: --- second try ---",
        "2027-01-15 08:01:35    power: overheated temperature=93.0 (x2)",
        "2027-01-15 08:02:00    storage.flash",
        "2027-01-15 08:02:01    bob: status",
        "2027-01-15 08:02:10    agent restarted: online on rack-2, version 0.1.0",
        "2027-01-15 08:03:20    the lease of ann goes on until 2027-01-15 09:00:00",
        "2027-01-15 08:11:01    hook afterLease failed after 0.5s, exit code 1",
        "2027-01-15 08:11:02  the lease of ann ended after 10m: released by ann; torn down in 1.5s",
        "2027-01-15 08:11:40  bob: power.on, without a lease",
        "2027-01-15 08:11:50  disabled by admin: fan is broken",
        "2027-01-15 08:13:20  carl holds it",
        "2027-01-15 08:13:21    storage.flash (still running)",
        "now                  carl holds it",
    ]


def test_a_story_that_begins_in_the_middle() -> None:
    """A lease that was granted before is told from its end: it says who held it and how long."""
    ended = event(600, "lease.ended", **LEASE, reason="its time was up", by="", held=3600.0)
    assert list(lines(tell([call(10, "power.on"), ended]))) == [
        "2027-01-15 07:10:00  ann holds it",
        "2027-01-15 08:00:10    power.on",
        "2027-01-15 08:10:00  the lease of ann ended after 1h: its time was up",
    ]


def test_a_board_that_is_ready_before_the_scheduler_says_so() -> None:
    """One lease, with its wait, whichever event was stored first; what was before is not of it."""
    told = [
        event(0, "exporter.online", host="vm"),
        event(1, "lease.ready", **LEASE),
        event(2, "lease.granted", **LEASE, waited=5.0),
    ]
    assert [line[21:] for line in lines(tell(told))] == [
        "online on vm",
        "ann holds it, after a wait of 5s",
        "ann holds it",
    ]


def test_a_lease_that_is_handed_on() -> None:
    """It ends as that of who got it; what a hook did is said to be of a hook."""
    told = [
        event(0, "lease.granted", **LEASE),
        event(1, "call.finished", "dut", user="bench-1", method="on", count=1, outcome="ok"),
        event(2, "lease.transferred", **LEASE, to="bob", by="ann"),
        event(3, "lease.ended", **(LEASE | {"holder": "bob"}), reason="released", by="bob", held=3.0),
    ]
    assert [line[21:] for line in lines(tell(told))] == [
        "ann holds it",
        "  a hook: dut.on",
        "  the lease of ann goes to bob",
        "the lease of bob ended after 3s: released by bob",
    ]


def test_odd_events_spoil_no_story() -> None:
    """What is not as the contract has it is shown as it is, and nothing of it acts on a terminal."""
    odd = [
        event(1, "lease.ended", reason="no id"),
        event(2, "call.finished", count="many"),
        event(3, "lease.lost", id="1", holder="\x1b[31mann\nroot"),
        event(4, "driver.said", text="\x1b]0;title\x07hi\nthere\x9b31m"),
        event(5, "console.marker", "serial", marker="new-kind", text="\x1b[2Jcleared"),
    ]
    told = list(lines(tell(odd)))
    assert [line[21:] for line in told if "said" in line] == ["  said text=hi there31m"]
    assert not [line for line in told if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in line)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (event(0, "lease.waiting", user="ann", selectors=["board=rpi4"], priority=5, duration=1800.0, note="nightly"),
         "ann waits for board=rpi4, for 30m, priority 5: nightly"),
        (event(0, "lease.booked", user="ann", boards=["bench-1"]), "ann has booked bench-1"),
        (event(0, "lease.given-up", user="ann", reason="waited too long", by=""), "ann waits no more: waited too long"),
        (event(0, "lease.granted", **LEASE, end=NOW, waited=90.0),
         "ann gets it until 2027-01-15 08:00:00, after a wait of 1m30s"),
        (event(0, "lease.shared", **LEASE, co_holders=["bob"]), "ann shares it with bob"),
        (event(0, "lease.transferred", **LEASE, to="bob", by="admin"), "the lease of ann goes to bob by admin"),
        (event(0, "lease.ended", **LEASE, reason="a fire drill", by="root", held=60.0),
         "the lease of ann ended after 1m: a fire drill (by root)"),
        (event(0, "exporter.commented", comment="", by="root"), "comment taken back by root"),
        (event(0, "exporter.offline", reason="the agent was killed"), "offline: the agent was killed"),
        (event(0, "exporter.events-lost", count=7), "7 events lost: the broker was away for too long"),
        (event(0, "call.finished", user="ann", method="set", count=3, outcome="ok", error="", seconds=2.5,
               arguments={"volts": {"type": "float", "value": 3.3}, "label": {"type": "str"}}),
         "ann called set(volts, label) x3, 2.5s"),
        (event(0, "call.finished", user="ann", method="set", count=1, outcome="ok", error="", seconds=0.01,
               arguments={"volts": {"type": "float", "value": 3.3}, "label": {"type": "str"}}),
         "ann called set(volts=3.3, label)"),
        (event(0, "call.finished", user="ann", method="set", outcome="cancelled", error="CallCancelled"),
         "ann called set() (cancelled)"),
        (event(0, "some.other", value=1, text="x"), "some.other value=1 text=x"),
    ],
)  # fmt: skip
def test_events_in_words(given: StoredEvent, said: str) -> None:
    """One line for each."""
    assert words(given) == said


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A lab in which the script has happened, to bench-1."""
    with running_broker(principals={"user": ["ann"], "exporter": ["bench-1", "bench-2"]}) as broker:
        asyncio.run(_play(broker.context("bench-1")))
        yield broker


async def _play(context: Context) -> None:
    bench = await open_connection(context)
    relay = NodeRecord(path="relay", client="", interface="")
    tree = TreeRecord(name="bench-1", instance="ab", nodes=[relay], version="0.1.0")
    await put_record(bench, tree_key("bench-1"), tree.encode())
    for each in SCRIPT:
        await store_event(bench, Event(source=each.source, type=each.type, subject=each.subject, data=each.data))
    line = LogRecord(time=NOW, level="INFO", path="dut.power", message="on\nand \x1b[31mred")
    await put_record(bench, log_subject("bench-1", "dut.power"), line.encode())
    await bench.close()


@pytest.fixture
def run(broker: TestBroker, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `jsnats` as ann; return its result."""
    monkeypatch.setenv("JSNATS_CONTEXT", str(broker.context_path("ann")))
    return lambda *words: CliRunner().invoke(app, words)


def test_jsnats_events(run: Any) -> None:
    """One line each: the broker's time, where, what; filtered by exporter and type."""
    result = run("events", "bench-1", "--type", "hook.*")
    assert [line[19:] for line in result.stdout.splitlines()] == [
        "  bench-1               hook beforeLease runs",
        "  bench-1               hook beforeLease ok after 2s",
        "  bench-1               hook afterLease failed after 0.5s, exit code 1",
    ]
    assert len(run("events").stdout.splitlines()) == len(SCRIPT)
    nothing = run("events", "bench-1", "--type", "hook.lost", "--since", "5m")
    assert (nothing.stdout, nothing.stderr) == ("", "no such events since 5m: --since 1d looks further back\n")


def test_jsnats_events_json(run: Any) -> None:
    """Each is a CloudEvent in one line, with the time at which it was stored."""
    first = json.loads(run("events", "--type", "lease.granted", "--json", "--since", "1d").stdout.splitlines()[0])
    assert (first["type"], first["source"]) == ("jsnats.lease.granted", "/jsnats/bench-1")
    assert first["data"]["holder"] == "ann"
    assert first["stored"].endswith("+00:00")


def test_jsnats_events_refuses_what_it_cannot_read(run: Any) -> None:
    """A wrong time or type is one line."""
    assert "'soon' is no time" in run("events", "--since", "soon").stderr
    assert "write it like lease.granted" in run("events", "--type", "lease.>").stderr


def test_jsnats_events_follow(broker: TestBroker) -> None:
    """What comes is printed as it comes."""
    environment = {"JSNATS_CONTEXT": str(broker.context_path("ann")), "PATH": str(Path(sys.executable).parent)}
    command = [sys.executable, "-m", "jsnats.sdk.cli", "events", "-f", "--since", "1d", "--type", "driver.*", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        for _ in range(2):
            process.stdout.readline()
        asyncio.run(_tell(broker.context("bench-1"), "driver.opened"))
        assert json.loads(process.stdout.readline())["type"] == "jsnats.driver.opened"
        process.terminate()


async def _tell(context: Context, type_: str) -> None:
    bench = await open_connection(context)
    await store_event(bench, Event(source="bench-1", type=type_))
    await bench.close()


def test_jsnats_logs(run: Any) -> None:
    """Time, level, driver, text; further lines are indented, and nothing acts on the terminal."""
    shown = "2027-01-15 08:00:00  INFO     dut.power: on\n    and red\n"
    assert run("logs", "bench-1").stdout == shown
    assert run("logs", "bench-1", "dut", "--since", "1d").stdout == shown
    assert json.loads(run("logs", "bench-1", "--json").stdout)["message"] == "on\nand \x1b[31mred"
    assert run("logs", "bench-1", "relay").stderr == "nothing was logged since 1h: --since 1d looks further back\n"


@pytest.mark.parametrize("follow", [(), ("--follow",)])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("logs", "bench-9"), "no exporter 'bench-9' in this lab; there is: bench-1"),
        (("events", "bench-9"), "no exporter 'bench-9' in this lab; there is: bench-1"),
        (
            ("logs", "bench-1", "rely"),
            "bench-1 has no driver 'rely' (did you mean 'relay'?): see `jsnats tree bench-1`",
        ),
    ],
)
def test_of_what_is_not_there_nothing_is_awaited(
    broker: TestBroker, words: tuple[str, ...], said: str, follow: tuple[str, ...]
) -> None:
    """A wrong name ends with 2 and says which there are, when nothing is found and before what comes is awaited."""
    environment = {"JSNATS_CONTEXT": str(broker.context_path("ann")), "PATH": str(Path(sys.executable).parent)}
    command = [sys.executable, "-m", "jsnats.sdk.cli", *words, *follow]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {said}\n")


@pytest.mark.parametrize("command", [("events", "bench-2"), ("logs", "bench-2"), ("logs", "bench-2", "gone")])
def test_what_has_left_the_lab_is_still_told(broker: TestBroker, run: Any, command: tuple[str, ...]) -> None:
    """An exporter that was removed, or its driver: what is stored is shown and more is awaited. When nothing is young
    enough, that is said."""
    asyncio.run(_leave(broker.context("bench-2")))
    assert "bye" in run(*command).stdout
    time_to_come = f"{time.time() + 3600:.0f}"
    nothing = run(*command, "--since", time_to_come)
    assert (nothing.exit_code, f"since {time_to_come}" in nothing.stderr) == (0, True)
    environment = {"JSNATS_CONTEXT": str(broker.context_path("ann")), "PATH": str(Path(sys.executable).parent)}
    words = [sys.executable, "-m", "jsnats.sdk.cli", *command, "-f", "--since", "1d"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        assert "bye" in process.stdout.readline()
        process.terminate()


async def _leave(context: Context) -> None:
    async with await open_connection(context) as bench:
        await store_event(bench, Event(source="bench-2", type="driver.said", data={"text": "bye"}))
        line = LogRecord(time=NOW, level="INFO", path="gone", message="bye")
        await put_record(bench, log_subject("bench-2", "gone"), line.encode())


def test_jsnats_history(run: Any, broker: TestBroker) -> None:
    """The story, and the same as JSON; an exporter that is not there is named as such."""
    with connect(context=broker.context("ann")) as lab:
        script = [each for each in lab.events(exporter="bench-1") if each.type != "driver.opened"]
    told = run("history", "bench-1", "--since", "2h").stdout.splitlines()
    assert told[: len(told) - 3] == list(lines(tell(script)))[: len(told) - 3]
    chapters = json.loads(run("history", "bench-1", "--json").stdout)
    assert [each["holder"] for each in chapters] == ["", "ann", "", "carl"]
    assert (chapters[1]["reason"], chapters[1]["by"]) == ("released", "ann")
    assert "power.cycle x3" in chapters[1]["deeds"][1]["text"]
    assert "there is: bench-1" in run("history", "bench-9").stderr
    assert run("history", "--help").stdout.count("Example: jsnats history bench-1") == 1
