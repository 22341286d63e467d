"""Clients of the churn: many in one process, each with a connection and a user of its own.

python churn_clients.py DIRECTORY URL FIRST LAST GROUPS SHORT
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from churn_child import Pauses, Ways, next_line, say

from jsnats.schemas import JsnatsError, LeaseRequired
from jsnats.sdk import AsyncLab, AsyncLease, Context, connect_async

LONG_S, SHORT_S = 30.0, 3.0
"""How long a lease outlives its holder; the short one is of those that go without a word."""
DROPS, INTRUDES, URGENT = 0.05, 0.1, 0.15
"""How many leases are dropped without a release, are preceded by an attempt to call without one, are urgent."""
WORK_S = 0.1
LATE_S = 40.0
"""Who asked before the end is waited for so long after it."""


@dataclass(slots=True)
class Take:
    """One lease from its request on. Unix times in s, 0.0 for what has not happened."""

    lease: str
    user: str
    asked: float
    called: float = 0.0
    released: float = 0.0
    dropped: bool = False


@dataclass(slots=True)
class Report:
    """What the clients of this process have seen."""

    takes: list[Take] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    refused: int = 0


class Client:
    """Takes one lease after the other until `end`, Unix time in s."""

    def __init__(self, context: Context, groups: int, short: bool, report: Report) -> None:
        self.context = context
        self.groups = groups
        self.short = short
        self.report = report
        self.dropped = False
        self.lab: AsyncLab

    async def run(self, end: float) -> None:
        """With a new connection after each that was dropped."""
        while time.time() < end:
            async with connect_async(context=self.context) as self.lab:
                gone = False
                while time.time() < end and not gone:
                    await self._intrude()
                    gone = await self._turn()

    async def _turn(self) -> bool:
        drop = random.random() < DROPS
        lease = self.lab.lease(
            f"group={random.randrange(self.groups)}",
            duration="10m",
            priority=random.choice((1, 5)) if random.random() < URGENT else 0,
            tether=SHORT_S if drop or self.short else LONG_S,
        )
        take = Take(lease.id, self.context.name, time.time(), dropped=drop)
        self.report.takes.append(take)
        try:
            await self._work(lease, take)
        except (JsnatsError, TimeoutError) as error:
            self.report.faults.append(f"{time.time():.3f}: {take}: {type(error).__name__}: {error}")
        if drop:
            self.dropped = True
            await lease.stop()
            return True
        take.released = time.time()
        await lease.give_back()
        return False

    async def _work(self, lease: AsyncLease, take: Take) -> None:
        await lease.take()
        bench = await self.lab.exporter(lease.boards[0])
        await bench.call_async("enter", lease.id)
        take.called = time.time()
        await bench.call_async("work", lease.id, random.random() * WORK_S)

    async def _intrude(self) -> None:
        """Call where somebody else is, or nobody: not where a lease of ours may still be, which we dropped."""
        if self.dropped or random.random() > INTRUDES:
            return
        try:
            name = random.choice(await self.lab.exporters()).name
            bench = await self.lab.exporter(name)
            await bench.call_async("enter", "")
            self.report.faults.append(f"{self.context.name} came in at {name} without a lease")
        except LeaseRequired:
            self.report.refused += 1
        except (JsnatsError, TimeoutError) as error:
            self.report.faults.append(f"{self.context.name} was not refused but failed: {error}")


async def main(ways: Ways, numbers: range, groups: int, short: bool) -> None:
    """Wait for the end on the first line, and report when all are done."""
    report, pauses = Report(), Pauses()
    pausing = asyncio.ensure_future(pauses.run())
    names = [f"user-{number}" for number in numbers]
    clients = [Client(ways.of("user", name), groups, short, report) for name in names]
    say("ready")
    end = float(await next_line())
    _, late = await asyncio.wait(
        [asyncio.ensure_future(each.run(end)) for each in clients], timeout=end + LATE_S - time.time()
    )
    report.faults.extend("a client is not done" for _ in late)
    answer: dict[str, Any] = asdict(report) | {"users": names, "pauses": pauses.found}
    pausing.cancel()
    say(json.dumps(answer))
    await next_line()


if __name__ == "__main__":
    first, last, many, mortal = map(int, sys.argv[3:7])
    asyncio.run(main(Ways(Path(sys.argv[1]), sys.argv[2]), range(first, last), many, bool(mortal)))
