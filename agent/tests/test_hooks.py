"""Hooks: what runs before and after a lease, what comes of one that fails, and where its words go."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jsnats.agent import Exporter, Hook, Spec, _hooks
from jsnats.agent.testing import Board
from jsnats.broker.testing import TestBroker
from jsnats.common.exceptions import LeaseRequired
from jsnats.schemas import EVENTS, LOGS, Event, LogRecord, log_subject
from jsnats.sdk import AsyncLab, follow
from jsnats.testing import until_async


@asynccontextmanager
async def hosted(broker: TestBroker, **hooks: Any) -> AsyncIterator[Exporter]:
    """`bench` with a Board and these hooks; `told` of it has its events."""
    made: Mapping[Any, Hook] = {
        name: hook if isinstance(hook, Hook) else Hook(script=hook) for name, hook in hooks.items()
    }
    exporter = Exporter(Spec(name="bench", root=Board(), lease="required", hooks=made), broker.context("bench"))
    told: list[tuple[str, dict[str, Any]]] = []
    tell = exporter.events

    def events(type_: str, data: dict[str, Any], path: str = "") -> None:
        told.append((type_, data))
        tell(type_, data, path)

    exporter.events = events  # type: ignore[method-assign]
    exporter.told = told  # type: ignore[attr-defined]
    async with exporter:
        yield exporter


async def one_lease(leases: Any) -> Any:
    """Grant, wait until it is held, end it, wait for the teardown; return the last presence."""
    lease = await leases.grant()
    await leases.until("leased", epoch=lease.epoch)
    await leases.end()
    return await leases.until("available", ended=lease.epoch)


async def lines(leases: Any, *, until: str) -> list[tuple[str, str]]:
    """Level and text of what `bench` has logged, up to the line that has `until` in it."""
    found: list[tuple[str, str]] = []
    async for each in follow(leases.connection, LOGS.name, log_subject("bench", "")):
        for line in each.message.data.splitlines():
            record = LogRecord.decode(line)
            found.append((record.level, record.message))
            if until in record.message:
                return found
    raise AssertionError


def wait_until_gone(pid: int) -> None:
    """Wait until a process is no more, or only waits for init to take note of its end."""
    status = Path(f"/proc/{pid}/status")
    while status.exists() and "State:\tZ" not in status.read_text():
        time.sleep(0.01)


async def test_a_hook_knows_its_lease(broker: TestBroker, leases: Any, tmp_path: Path) -> None:
    """It has the exporter's context, private to it and gone afterwards, and the names of lease and holder."""
    script = f"env > {tmp_path}/env; stat -c %a $JSNATS_CONTEXT > {tmp_path}/mode; which j > {tmp_path}/j"
    async with hosted(broker, beforeLease=script):
        await one_lease(leases)
    env = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    assert env["JSNATS_EXPORTER"] == "bench"
    assert env["JSNATS_HOLDER"] == "tester"
    assert env["JSNATS_LEASE"] == "6f2a9d0c11e38b47"
    assert env["JSNATS_URL"] == broker.url
    assert not list(Path(env["JSNATS_CONTEXT"]).parent.glob("*"))
    assert (tmp_path / "mode").read_text() == "600\n"
    assert (tmp_path / "j").read_text()


async def test_what_a_hook_prints_is_kept(broker: TestBroker, leases: Any) -> None:
    """Line by line in the log of the exporter, with its name; both outputs, and its end."""
    async with hosted(broker, beforeLease="echo one; echo two >&2; printf three", afterLease="echo bye"):
        await one_lease(leases)
    texts = [text for level, text in await lines(leases, until="afterLease: ok") if level == "INFO"]
    assert [text for text in texts if " ok " not in text][-6:] == [
        "beforeLease: begins for tester",
        "beforeLease: one",
        "beforeLease: two",
        "beforeLease: three",
        "afterLease: begins for tester",
        "afterLease: bye",
    ]


async def test_hooks_and_drivers_in_order(broker: TestBroker, leases: Any, tmp_path: Path) -> None:
    """Before: reset, then the hook; after: the hook, then close. Each is told as an event."""
    async with hosted(broker, beforeLease="true", afterLease="exit 4") as exporter:
        await leases.until("available")
        exporter.told.clear()
        exporter.spec.root.told = exporter.told
        await one_lease(leases)
        told = [each if isinstance(each, str) else each[0] for each in exporter.told]
    assert told == [
        "reset",
        "hook.started",
        "hook.finished",
        "lease.ready",
        "hook.started",
        "hook.finished",
        "close",
        "lease.torn-down",
    ]
    finished = [each[1] for each in exporter.told if each[0] == "hook.finished"]
    assert [(each["hook"], each["code"], each["outcome"]) for each in finished] == [
        ("beforeLease", 0, "ok"),
        ("afterLease", 4, "failed"),
    ]


async def test_nobody_is_let_in_while_a_hook_runs(
    broker: TestBroker, leases: Any, lab: AsyncLab, tmp_path: Path
) -> None:
    """Not even the holder, who is told what goes on."""
    os.mkfifo(tmp_path / "go")
    async with hosted(broker, beforeLease=f"read _ < {tmp_path}/go", afterLease=f"read _ < {tmp_path}/go"):
        client = await lab.exporter("bench")
        lease = await leases.grant()
        await leases.until("preparing", epoch=lease.epoch)
        with pytest.raises(LeaseRequired, match="bench is being prepared for tester: the beforeLease hook runs"):
            await client.call_async("ping")
        await asyncio.to_thread((tmp_path / "go").write_text, "\n")
        await leases.until("leased", epoch=lease.epoch)
        await client.call_async("ping")
        await leases.end("released")
        await leases.until("ending", epoch=lease.epoch)
        with pytest.raises(LeaseRequired, match="torn down, tester had it, the lease has ended: released"):
            await client.call_async("ping")
        await asyncio.to_thread((tmp_path / "go").write_text, "\n")
        await leases.until("available", ended=lease.epoch)


async def test_a_failing_hook_may_end_the_lease(broker: TestBroker, leases: Any) -> None:
    """The reason names the hook; after it the exporter is available."""
    async with hosted(broker, beforeLease=Hook(script="exit 3", on_failure="endLease")):
        lease = await leases.grant()
        told = await leases.until("available", ended=lease.epoch)
        assert told.reason == "beforeLease hook failed: exit code 3"


async def test_a_failing_hook_may_be_a_warning(broker: TestBroker, leases: Any) -> None:
    """The lease begins; the log says what failed."""
    async with hosted(broker, beforeLease="exit 3"):
        await one_lease(leases)
    assert ("WARNING", "beforeLease: failed after 0.0 s, exit code 3") in await lines(leases, until="exit code 3")


async def test_a_failing_hook_may_end_the_exporter(broker: TestBroker, leases: Any) -> None:
    """With that error, when the board is torn down."""
    async with hosted(broker, beforeLease=Hook(script="kill -9 $$", on_failure="exit")) as exporter:
        await leases.grant()
        await exporter.lost.wait()
        assert str(exporter.error) == "beforeLease hook failed: killed by SIGKILL"
        assert exporter.spec.root.told[-1] == "close"


async def test_a_hook_that_takes_too_long(broker: TestBroker, leases: Any, tmp_path: Path) -> None:
    """It is killed, its grandchildren too, even those that ignore SIGTERM."""
    script = f"trap '' TERM; sleep 77 & echo $! > {tmp_path}/pid; bash -c 'sleep 77'; sleep 77"
    async with hosted(broker, beforeLease=Hook(script=script, timeout_s=0.3, on_failure="endLease")):
        lease = await leases.grant()
        told = await leases.until("available", ended=lease.epoch)
        assert told.reason == "beforeLease hook failed: it did not end within 0.3 s"
    await asyncio.to_thread(wait_until_gone, int((tmp_path / "pid").read_text()))


async def test_a_lease_that_ends_while_its_hook_runs(broker: TestBroker, leases: Any, tmp_path: Path) -> None:
    """The hook is killed, and what it left; the teardown goes on."""
    async with hosted(broker, beforeLease=f"sleep 77 & echo $! > {tmp_path}/pid; sleep 77") as exporter:
        lease = await leases.grant()
        await leases.until("preparing", epoch=lease.epoch)
        await until_async((tmp_path / "pid").read_text, despite=FileNotFoundError)
        await leases.end()
        await leases.until("available", ended=lease.epoch)
        assert [each[1]["outcome"] for each in exporter.told if each[0] == "hook.finished"] == ["cancelled"]
    await asyncio.to_thread(wait_until_gone, int((tmp_path / "pid").read_text()))


async def test_a_hook_works_with_the_drivers(broker: TestBroker, leases: Any, tmp_path: Path) -> None:
    """`j` in it calls them as the exporter, while nobody else may: before the lease and after it; streams too."""
    before = f"jsnats call bench.on && jsnats call bench.count 3 > {tmp_path}/counted"
    after = f"jsnats call bench.is_on > {tmp_path}/was_on"
    async with hosted(broker, beforeLease=Hook(script=before, on_failure="endLease"), afterLease=after):
        await one_lease(leases)
    assert (tmp_path / "was_on").read_text() == "true\n"
    assert (tmp_path / "counted").read_text().split() == ["0", "1", "2"]


async def test_what_happened_is_told_to_the_lab(broker: TestBroker, leases: Any) -> None:
    """The story of a lease as anybody reads it, hooks and all."""
    begin = leases.presence.now()
    async with hosted(broker, beforeLease="true", afterLease="exit 4"):
        await one_lease(leases)
    types = []
    async for each in follow(leases.connection, EVENTS.name, "jsnats.event.bench.>", since=begin):
        types.append(Event.decode(each.message.data).type)
        if types[-1] == "exporter.offline":
            break
    assert types == [
        "exporter.online",
        *("hook.started", "hook.finished", "lease.ready"),
        *("hook.started", "hook.finished", "lease.torn-down"),
        "exporter.offline",
    ]


async def test_a_holder_that_no_variable_can_name(broker: TestBroker, leases: Any, tmp_path: Path) -> None:
    """Given to a name with a NUL in it: both hooks run all the same, and the exporter goes on."""
    async with hosted(broker, beforeLease="true", afterLease=f"printenv JSNATS_HOLDER > {tmp_path}/holder") as exporter:
        lease = await leases.grant("a=00b")
        await leases.until("leased", epoch=lease.epoch)
        await leases.end()
        await leases.until("available", ended=lease.epoch)
        assert not exporter.lost.is_set()
    assert (tmp_path / "holder").read_text() == "a\N{REPLACEMENT CHARACTER}b\n"


async def test_what_a_hook_leaves_running_elsewhere(
    broker: TestBroker, leases: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon of its own session that still has the hook's output does not keep the board."""
    monkeypatch.setattr(_hooks, "KILL_S", 0.2)
    script = f"setsid sleep 60 & echo $! > {tmp_path}/pid"
    async with hosted(broker, afterLease=Hook(script=script, timeout_s=1.0)):
        async with asyncio.timeout(10):
            await one_lease(leases)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
