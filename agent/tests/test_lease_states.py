"""What an exporter does from the grant of a lease until its board is torn down, as everybody sees it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic.dataclasses import dataclass

from jsnats.agent import Exporter, Spec
from jsnats.agent.testing import Bench
from jsnats.broker.testing import TestBroker
from jsnats.common.exceptions import LeaseRequired
from jsnats.driver import export
from jsnats.schemas import call_subject, headers as h
from jsnats.sdk import AsyncLab, Caller


@dataclass(kw_only=True, eq=False)
class Board(Bench):
    """A Bench with power, and a method that hangs until it is let go."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.power = False
        self.told: list[str] = []
        self.hangs = threading.Event()
        self.go = threading.Event()

    @export
    async def on(self) -> None:
        """Switch on."""
        self.power = True

    @export
    async def is_on(self) -> bool:
        """Whether it is on."""
        return self.power

    @export
    def hang(self) -> None:
        """Hold the thread."""
        self.hangs.set()
        self.go.wait(30)

    def reset(self) -> None:
        self.told.append("reset")

    def close(self) -> None:
        self.told.append("close")
        self.power = False


def board(exporter: Exporter) -> Board:
    root = exporter.spec.root
    assert isinstance(root, Board)
    return root


@pytest.fixture
def policy() -> str:
    return "required"


@pytest.fixture
async def exporter(broker: TestBroker, policy: Any) -> Any:
    """`bench`, which answers lease holders only."""
    async with Exporter(Spec(name="bench", root=Board(), lease=policy), broker.context("bench")) as exporter:
        yield exporter


async def call(lab: AsyncLab, method: str, *args: Any, epoch: int = 0) -> Any:
    """Call as the user of `lab`, with an epoch if one is named; raise what the exporter answers."""
    import json

    subject = call_subject("bench", lab.context.token, "", method)
    headers = {h.EPOCH: str(epoch)} if epoch else {}
    answer = await lab.connection.request(subject, json.dumps(args).encode(), headers=headers, timeout_s=20)
    if answer.headers and h.ERROR in answer.headers:
        raise Caller.remote_error(answer)
    return json.loads(answer.data)


async def test_from_grant_to_teardown(exporter: Exporter, leases: Any, lab: AsyncLab) -> None:
    """available, preparing, leased, ending, available: each is told with its epoch, and the drivers are reset at the
    beginning and closed at the end."""
    await leases.until("available", epoch=0)
    lease = await leases.grant()
    await leases.until("leased", epoch=lease.epoch)
    assert await call(lab, "ping", 1, epoch=lease.epoch) == 1
    assert board(exporter).told == ["reset", "reset"]
    await leases.end("released by tester")
    told = await leases.until("available", ended=lease.epoch)
    assert (told.epoch, told.reason) == (0, "released by tester")
    assert board(exporter).told == ["reset", "reset", "close"]
    with pytest.raises(LeaseRequired, match=f"epoch {lease.epoch} on bench has ended"):
        await call(lab, "ping", 1, epoch=lease.epoch)


async def test_a_lease_ends_under_whatever_runs(exporter: Exporter, leases: Any, lab: AsyncLab) -> None:
    """A long sync call, a stream and a byte stream are all ended, and told why."""
    lease = await leases.grant()
    await leases.until("leased", epoch=lease.epoch)
    ends: list[BaseException] = []

    async def stream() -> None:
        async for _ in lab.caller.stream("bench", "", "count", n=10**6, pause=0.01):
            pass

    async def pipe() -> None:
        async with lab.stream("bench.", "connect") as opened:
            await opened.receive()

    async def block() -> None:
        await call(lab, "block", 0.5)

    running = [asyncio.ensure_future(each()) for each in (stream, pipe, block)]
    while len(exporter.dispatcher.table.running()) < 3:
        await asyncio.sleep(0)
    await leases.end("its holder has crashed")
    ends = await asyncio.gather(*running, return_exceptions=True)
    for end in ends:
        assert "its holder has crashed" in str(end)
    await leases.until("available", ended=lease.epoch)
    assert board(exporter).finished == 2
