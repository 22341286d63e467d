"""What an exporter does from the grant of a lease until its board is torn down, as everybody sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from jsnats.agent import Exporter, Spec, _lifecycle
from jsnats.agent.testing import AgentProcess, Bench, Board
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.common.exceptions import CallCancelled, ConfigurationError, LeaseLost, LeaseRequired
from jsnats.schemas import (
    EVENTS,
    Event,
    LeasePolicy,
    PresenceRecord,
    call_subject,
    encode_json,
    encode_msgpack,
    headers as h,
    presence_key,
)
from jsnats.sdk import AsyncLab, Caller, Mirror, connect_async, follow, put_record
from jsnats.testing import until_async


@pytest.fixture
async def board(broker: TestBroker) -> AsyncIterator[Board]:
    """The drivers of `bench`, which answers lease holders only."""
    board = Board()
    async with exporter_of(broker, board, "required"):
        yield board


class Broken(Board):
    """Does not start."""

    async def start(self) -> None:
        raise RuntimeError("no such device")


def exporter_of(broker: TestBroker, board: Bench, policy: LeasePolicy = "if-held") -> Exporter:
    """`bench`, not started."""
    return Exporter(Spec(name="bench", root=board, lease=policy), broker.context("bench"))


async def call(lab: AsyncLab, method: str, *args: Any, epoch: int = 0) -> Any:
    """Call with an epoch if one is named; raise what the exporter answers."""
    subject = call_subject("bench", lab.connection.context.token, "", method)
    headers = {h.EPOCH: str(epoch), h.CONTENT_TYPE: "application/msgpack"} if epoch else {}
    body = encode_msgpack(list(args)) if epoch else encode_json(list(args))
    answer = await lab.connection.request(subject, body, headers=headers, timeout_s=20)
    if answer.headers and h.ERROR in answer.headers:
        raise Caller.remote_error(answer)
    return answer.data


async def test_from_grant_to_teardown(board: Board, leases: Any, lab: AsyncLab) -> None:
    """leased, then available, each with its epoch; the drivers are reset at the beginning and closed at the end."""
    await leases.until("available", epoch=0)
    lease = await leases.grant()
    await leases.until("leased", epoch=lease.epoch)
    await call(lab, "ping", 1, epoch=lease.epoch)
    assert board.told == ["reset", "reset"]
    await leases.end("released by tester")
    told = await leases.until("available", ended=lease.epoch)
    assert (told.epoch, told.reason) == (0, "released by tester")
    assert board.told == ["reset", "reset", "close"]
    with pytest.raises(LeaseRequired, match=f"epoch {lease.epoch} on bench has ended"):
        await call(lab, "ping", 1, epoch=lease.epoch)


async def test_a_lease_ends_under_whatever_runs(board: Board, leases: Any, lab: AsyncLab) -> None:
    """A long sync call, a stream and a byte stream are ended, and their callers told why."""
    lease = await leases.grant()
    await leases.until("leased", epoch=lease.epoch)

    async def stream() -> None:
        results = await lab.stream("bench", "", "count", encode_msgpack({"n": 10**6, "pause": 0.01}))
        async for _ in results:
            pass

    async def pipe() -> None:
        opened = await lab.open_stream("bench", "", "connect", b"")
        while True:
            await opened.receive()

    running = [asyncio.ensure_future(each) for each in (stream(), pipe(), call(lab, "hang"))]
    await until_async(lambda: bool(board.hangs.is_set() and board.produced and board.opened))
    board.go_after(0.3)
    await leases.end("its holder has crashed")
    for each in await asyncio.gather(*running, return_exceptions=True):
        assert isinstance(each, LeaseLost | ConnectionResetError)
        assert "the lease has ended: its holder has crashed" in str(each)
    await leases.until("available", ended=lease.epoch)
    assert board.finished == 2
    assert board.told[-1] == "close"


async def test_a_method_that_hangs_makes_the_exporter_stuck(
    board: Board, leases: Any, lab: AsyncLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drivers are closed all the same, its place is named, and it is available when the thread is back: closed
    once more."""
    monkeypatch.setattr(_lifecycle, "CLOSE_S", 0.1)
    lease = await leases.grant()
    await leases.until("leased", epoch=lease.epoch)
    hanging = asyncio.ensure_future(call(lab, "hang"))
    await until_async(board.hangs.is_set)
    await leases.end()
    with pytest.raises(LeaseLost):
        await hanging
    stuck = await leases.until("stuck", epoch=lease.epoch)
    assert stuck.reason == "hang"
    assert board.told == ["reset", "reset", "close"]
    with pytest.raises(LeaseRequired, match="bench is stuck: hang"):
        await call(lab, "ping")
    board.go.set()
    free = await leases.until("available", ended=lease.epoch)
    assert free.reason == "released"
    assert board.told == ["reset", "reset", "close", "close"]


async def test_a_grant_ends_the_calls_of_everybody_else(
    broker: TestBroker, leases: Any, lab: AsyncLab, board_free: Board
) -> None:
    """They are told who has it now; the holder's own go on."""
    async with connect_async(context=broker.context("mallory")) as other:
        theirs = asyncio.ensure_future(call(other, "sleep", 30))
        mine = asyncio.ensure_future(call(lab, "sleep", 0.5))
        await until_async(lambda: board_free.sleeping == 2)
        lease = await leases.grant("tester")
        with pytest.raises(CallCancelled, match="the lease went to tester"):
            await theirs
        await mine
        await leases.until("leased", epoch=lease.epoch)
        with pytest.raises(LeaseRequired, match="bench is held by tester without an end: `jsnats lease create -l name"):
            await call(other, "ping")


@pytest.fixture
async def board_free(broker: TestBroker) -> AsyncIterator[Board]:
    """The drivers of `bench`, which anybody may call while it is free."""
    board = Board()
    async with exporter_of(broker, board):
        yield board


async def test_a_new_holder_puts_out_the_old_one(broker: TestBroker, board: Board, leases: Any, lab: AsyncLab) -> None:
    """A transfer ends the calls of who may no longer call, and a co-holder is let in; the lease itself goes on."""
    lease = await leases.grant("tester")
    await leases.until("leased", epoch=lease.epoch)
    running = asyncio.ensure_future(call(lab, "sleep", 30, epoch=lease.epoch))
    await until_async(lambda: board.sleeping == 1)
    async with connect_async(context=broker.context("mallory")) as other:
        await leases.write(replace(lease, co_holders=["mallory"]))
        await until_admitted(other, lease.epoch)
        await leases.write(replace(lease, holder="mallory"))
        with pytest.raises(CallCancelled, match="the lease went to mallory"):
            await running
        with pytest.raises(LeaseRequired, match="held by mallory"):
            await call(lab, "ping", epoch=lease.epoch)
        assert board.told == ["reset", "reset"]


async def until_admitted(lab: AsyncLab, epoch: int) -> None:
    """Call until the exporter has heard that it may answer."""
    while True:
        try:
            await call(lab, "ping", epoch=epoch)
        except LeaseRequired:
            continue
        return


async def test_a_lease_ends_at_its_end(board: Board, leases: Any) -> None:
    """Nobody deletes the record: the exporter ends it by itself, and does not take it up again."""
    lease = await leases.grant(for_s=0.5)
    told = await leases.until("available", ended=lease.epoch)
    assert told.reason == "its time is up"
    await leases.write(replace(lease, note="written anew"))
    after = await leases.grant("mallory")
    await leases.until("leased", epoch=after.epoch)
    assert board.told == ["reset", "reset", "close", "reset"]


async def test_an_extension_moves_the_end(board: Board, leases: Any) -> None:
    """The first end passes, the second one counts."""
    lease = await leases.grant(for_s=0.5)
    begin = time.monotonic()
    await leases.write(replace(lease, end=lease.end + 1.0))
    await leases.until("available", ended=lease.epoch)
    assert time.monotonic() - begin > 1.0


async def test_a_caller_who_knows_more_than_the_agent(
    broker: TestBroker, leases: Any, lab: AsyncLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call with an epoch that the agent has not heard of makes it read the record; one that is no lease's at all is
    refused then."""
    async with exporter_of(broker, Board(), "required"):
        with monkeypatch.context() as deaf:
            deaf.setattr(Mirror, "_take", lambda self, each: None)  # nothing is heard of a grant
            lease = await leases.grant("tester")
            await call(lab, "ping", 1, epoch=lease.epoch)
        await call(lab, "ping", 1, epoch=lease.epoch)
        with pytest.raises(LeaseRequired, match=f"epoch {lease.epoch + 99} on bench has ended"):
            await call(lab, "ping", 1, epoch=lease.epoch + 99)


async def test_power_stays_on_between_two_commands_outside_a_lease(broker: TestBroker, board_free: Board) -> None:
    """Nobody holds the exporter: nothing tears it down when a client goes."""
    async with connect_async(context=broker.context("tester")) as first:
        await call(first, "on")
    async with connect_async(context=broker.context("mallory")) as second:
        client = await second.exporter("bench")
        assert await client.call_async("is_on")
    assert board_free.told == ["reset"]


async def test_who_calls_without_a_lease_finds_the_drivers_begun(board_free: Board, leases: Any) -> None:
    """After a lease they are closed, and reset for everybody."""
    lease = await leases.grant()
    await leases.until("leased", epoch=lease.epoch)
    await leases.end()
    await leases.until("available", ended=lease.epoch)
    assert board_free.told == ["reset", "reset", "close", "reset"]


class Sleepy(Board):
    """Its reset hangs when it was closed before."""

    def reset(self) -> None:
        super().reset()
        if "close" in self.told:
            self.hang()


async def test_a_reset_that_hangs_after_a_lease(
    broker: TestBroker, leases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter is stuck, which is told, until it comes back: then it is closed and reset anew."""
    monkeypatch.setattr(_lifecycle, "END_S", 0.2)
    board = Sleepy()
    async with exporter_of(broker, board):
        lease = await leases.grant()
        await leases.until("leased", epoch=lease.epoch)
        await leases.end()
        assert (await leases.until("stuck", epoch=lease.epoch)).reason == "reset"
        board.go.set()
        await leases.until("available", ended=lease.epoch)
        assert board.told == ["reset", "reset", "close", "reset", "close", "reset"]


async def test_a_lab_that_begins_again(broker: TestBroker, leases: Any) -> None:
    """Its store was lost, and epochs are smaller than those that ended here before: its leases are leases."""
    left = PresenceRecord(instance="3fef62b51a737382", state="offline", before="leased", epoch=10**9, ended=10**9 - 1)
    await put_record(leases.connection, presence_key("bench"), left.encode())
    async with exporter_of(broker, Board(), "required"):
        await leases.until("available", ended=10**9)
        lease = await leases.grant()
        await leases.until("leased", epoch=lease.epoch)
        await leases.end()
        await leases.until("available", ended=lease.epoch)


async def test_a_lease_out_of_a_backup(broker: TestBroker, leases: Any) -> None:
    """It was written after another had ended here, and is older than that: it had ended too, and nobody is let in."""
    async with exporter_of(broker, Board(), "required"):
        old = await leases.grant()
        await leases.until("leased", epoch=old.epoch)
        await leases.end()
        await leases.until("available", ended=old.epoch)
        later = await leases.grant()
        await leases.until("leased", epoch=later.epoch)
        await leases.end()
        await leases.until("available", ended=later.epoch)
        await leases.write(old)
        found = await leases.until("available", ended=old.epoch)
        assert "restored from a backup" in found.reason
        newer = await leases.grant()
        await leases.until("leased", epoch=newer.epoch)


async def test_a_record_that_says_offline_is_put_right(broker: TestBroker, board: Board, leases: Any) -> None:
    """An agent that lives writes its own again, and an event that it is there; meanwhile it counts as free."""
    found = await leases.until("available")
    dead = replace(found, state="offline", reason="connection lost")
    await put_record(leases.connection, presence_key("bench"), dead.encode())
    await leases.until("available", instance=found.instance)
    said: list[str] = []
    async with asyncio.timeout(10):
        async for each in follow(leases.connection, EVENTS.name, "jsnats.event.bench.exporter.online"):
            said.append(Event.decode(each.message.data).data["instance"])
            if said[-2:] == [found.instance] * 2:
                break


async def test_an_offline_record_names_nobody(broker: TestBroker, leases: Any) -> None:
    """Its instance is not asked whether it lives."""
    dead = PresenceRecord(instance="3fef62b51a737382", state="offline", ended=3)
    await put_record(leases.connection, presence_key("bench"), dead.encode())
    async with exporter_of(broker, Board()):
        await leases.until("available", ended=3)


async def test_a_lease_survives_its_agent(broker: TestBroker, leases: Any, lab: AsyncLab) -> None:
    """A SIGKILL and a restart: the holder goes on in the same epoch, and nobody else gets in between."""
    context = broker.context_path("bench")
    with AgentProcess("bench", context, lease="required"):
        lease = await leases.grant()
        first = await leases.until("leased", epoch=lease.epoch)
    with AgentProcess("bench", context, lease="required"):
        second = await leases.until("leased", epoch=lease.epoch, reason="")
        while second.instance == first.instance:
            await leases.presence.updated.wait()
            second = await leases.until("leased", epoch=lease.epoch)
        await call(lab, "ping", epoch=lease.epoch)
        await leases.end()
        await leases.until("available", ended=lease.epoch)


async def test_a_lease_that_ended_without_its_agent_is_torn_down(
    broker: TestBroker, leases: Any, lab: AsyncLab
) -> None:
    """Killed while it held, released meanwhile: the next agent begins with the teardown."""
    with AgentProcess("bench", broker.context_path("bench")):
        lease = await leases.grant()
        await leases.until("leased", epoch=lease.epoch)
    await leases.end("released meanwhile")
    board = Board()
    async with exporter_of(broker, board, "required"):
        told = await leases.until("available", ended=lease.epoch)
        assert told.reason == "released meanwhile"
        assert board.told == ["reset", "close"]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("preparing", ["reset", "reset"]),
        ("available", ["reset", "reset"]),
        ("leased", ["reset"]),
        ("offline", ["reset"]),
        ("ending", ["reset", "close"]),
        ("stuck", ["reset", "close"]),
    ],
)
@pytest.mark.parametrize("gone", ["", "offline", "starting"])
async def test_what_the_last_agent_left(
    broker: TestBroker, leases: Any, state: str, told: list[str], gone: str
) -> None:
    """A lease that it was preparing, or had not heard of, is prepared; one that it held goes on; one that it tore down
    is torn down again: also if a scheduler, or another agent that never was ready, has written since."""
    lease = await leases.grant()
    epoch = 0 if state == "available" else lease.epoch
    left = PresenceRecord(instance="3fef62b51a737382", state=state, epoch=epoch, reason="its time is up")
    if gone and state != "offline":
        left = replace(left, state=gone, before=state, reason="its connection has ended" if gone == "offline" else "")
    await put_record(leases.connection, presence_key("bench"), left.encode())
    board = Board()
    async with exporter_of(broker, board, "required"):
        if state in ("ending", "stuck"):
            reason = "it was being torn down when its agent was restarted" if gone else "its time is up"
            assert (await leases.until("available", ended=lease.epoch)).reason == reason
        else:
            await leases.until("leased", epoch=lease.epoch)
        assert board.told == told


async def test_two_agents_that_die_one_after_the_other(broker: TestBroker, leases: Any) -> None:
    """The first while it prepares, the second before it is ready: the third still knows that it was not prepared."""
    lease = await leases.grant()
    left = PresenceRecord(instance="3fef62b51a737382", state="preparing", epoch=lease.epoch)
    await put_record(leases.connection, presence_key("bench"), left.encode())
    with pytest.raises(ConfigurationError):
        async with exporter_of(broker, Broken(), "required"):
            pass
    await leases.until("gone")
    board = Board()
    async with exporter_of(broker, board, "required"):
        await leases.until("leased", epoch=lease.epoch)
        assert board.told == ["reset", "reset"]


async def test_an_agent_that_is_stopped_tells_the_next_one(broker: TestBroker, leases: Any) -> None:
    """What had ended, and was still on record, does not come back."""
    async with exporter_of(broker, Board(), "required"):
        lease = await leases.grant(for_s=0.1)
        await leases.until("available", ended=lease.epoch)
    await leases.until("gone")
    board = Board()
    async with exporter_of(broker, board, "required"):
        await leases.until("available", ended=lease.epoch)
        assert board.told == ["reset"]


async def test_the_clock_of_the_host_does_not_matter(broker: TestBroker, leases: Any) -> None:
    """An hour late: a lease of half a second ends after half a second, no sooner and no later."""
    for offset_s in (3600.0, -3600.0):
        with AgentProcess("bench", broker.context_path("bench"), clock_offset_s=offset_s):
            await leases.until("available", epoch=0)
            begin = time.monotonic()
            lease = await leases.grant(for_s=0.5)
            await leases.until("available", ended=lease.epoch)
            assert 0.4 < time.monotonic() - begin < 5
            await leases.end()


async def test_a_cut_off_agent_keeps_the_lease_and_ends_it_in_time(make_leases: Any) -> None:
    """The broker is away: a lease goes on, and one whose end comes meanwhile is torn down on time."""
    with running_broker(principals={"exporter": ["bench"]}) as broker:
        board = Board()
        exporter = exporter_of(broker, board, "required")
        async with exporter, make_leases(broker) as leases:
            lease = await leases.grant(for_s=3.0)
            await leases.until("leased", epoch=lease.epoch)
            broker.stop()
            begin = time.monotonic()
            assert exporter.keeper.state == "leased"
            await until_async(lambda: exporter.keeper.state == "available")
            assert 1.0 < time.monotonic() - begin < 4
            assert board.told[-1] == "close"
            broker.start()
            told = await leases.until("available", ended=lease.epoch)
            assert told.reason == "its time is up"
