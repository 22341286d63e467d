"""Many clients over some exporters, and everything that can die does. See README.md."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from churn_checks import faults, figures, pauses
from churn_child import Child, Ways
from churn_watch import Watch

from jsnats.broker import Broker, LabDir, run_broker
from jsnats.broker.testing import TEST_STORE
from jsnats.sdk import connect_async, open_connection

HERE = Path(__file__).parent
PER_GROUP = 5
AGENTS, PROCESSES, MORTALS = 2, 4, 2
"""Processes of exporters, of clients that live, and of clients that are killed."""
MORTAL = 0.1
"""The share of the clients that die with their processes."""
FREE_S = 20.0
"""How long after the last client every exporter has to be free: the longest tether of those who died, and more."""


@dataclass(slots=True)
class Churn:
    """Everything that runs."""

    broker: Broker
    ways: Ways
    agents: list[Child]
    clients: list[Child]
    mortals: list[Child]
    schedulers: list[Child]

    def everybody(self) -> list[Child]:
        """All processes."""
        return [*self.agents, *self.clients, *self.mortals, *self.schedulers]


def split(count: int, parts: int, first: int = 0) -> list[tuple[int, int]]:
    """`count` numbers from `first` on in so many ranges, none of them empty."""
    edges = [first + count * part // parts for part in range(parts + 1)]
    return [(low, high) for low, high in pairwise(edges) if low < high]


@asynccontextmanager
async def running(clients: int, exporters: int) -> AsyncIterator[Churn]:
    """Start all of it."""
    with tempfile.TemporaryDirectory(prefix="jsnats-", ignore_cleanup_errors=True) as directory:
        lab = LabDir(directory)
        lab.init()
        names = {"exporter": exporters, "user": clients, "scheduler": 2}
        for role, count in names.items():
            for number in range(count):
                lab.add(role, f"{role}-{number}")
        async with run_broker(directory, total_bytes=TEST_STORE, scheduler=False) as broker:
            churn = Churn(broker, Ways(lab.creds, broker.url), [], [], [], [])
            try:
                await start(churn, clients, exporters)
                yield churn
            finally:
                for each in churn.everybody():
                    each.kill()
                await asyncio.gather(*(each.process.wait() for each in churn.everybody()))


async def start(churn: Churn, clients: int, exporters: int) -> None:
    """Schedulers, then agents, then clients."""
    for number in range(2):
        way = churn.ways.path("scheduler", f"scheduler-{number}")
        command = ("-m", "jsnats.sdk.cli", "scheduler", "run", "--context", way, "--nats", churn.broker.url)
        churn.schedulers.append(await Child.start(*command))
    where = (churn.ways.directory, churn.broker.url)
    for low, high in split(exporters, AGENTS):
        mine = [f"exporter-{number}:{number // PER_GROUP}" for number in range(low, high)]
        churn.agents.append(await Child.start(HERE / "churn_agent.py", *where, *mine))
    groups, mortals = -(-exporters // PER_GROUP), max(MORTALS, int(clients * MORTAL))

    async def start_clients(into: list[Child], low: int, high: int) -> None:
        into.append(await Child.start(HERE / "churn_clients.py", *where, low, high, groups, int(into is churn.mortals)))

    living = [start_clients(churn.clients, *each) for each in split(clients - mortals, PROCESSES)]
    await asyncio.gather(
        *living, *(start_clients(churn.mortals, *each) for each in split(mortals, MORTALS, clients - mortals))
    )


async def disturb(churn: Churn, begin: float, seconds: float) -> None:
    """Kill what is to be killed, one after the other."""

    async def at(share: float, what: str) -> None:
        await asyncio.sleep(begin + share * seconds - time.time())
        print(f"{time.time() - begin:6.1f} s: SIGKILL of {what}", flush=True)

    await at(0.2, "clients")
    churn.mortals[0].kill()
    await at(0.35, "one of two schedulers, for good")
    churn.schedulers[0].kill()
    await at(0.55, "the broker, which is started again")
    await churn.broker.kill()
    for each in churn.mortals[1:]:
        await at(0.75, "clients")
        each.kill()


async def left_over(churn: Churn) -> list[str]:
    """What is not free in the end."""
    async with connect_async(context=churn.broker.context()) as lab:
        end = time.time() + FREE_S
        while True:
            snapshot = await lab.snapshot()
            left = [f"a lease of {each.holder}" for each in snapshot.held()]
            left += [f"{each.user} waits" for each in snapshot.queue()]
            left += [f"{each.name} is {each.state}" for each in snapshot.exporters() if not each.free]
            if not left or time.time() > end:
                return left
            await asyncio.sleep(0.2)


@asynccontextmanager
async def watching(broker: Broker) -> AsyncIterator[Watch]:
    """Keep what the records say."""
    connection, watch = await open_connection(broker.context(), name="watch"), Watch()
    work = asyncio.ensure_future(watch.run(connection))
    try:
        yield watch
    finally:
        work.cancel()
        await connection.close()


async def churn(clients: int, exporters: int, seconds: float) -> list[str]:
    """Run it, print the figures, return the faults."""
    async with running(clients, exporters) as everything, watching(everything.broker) as watch:
        begin = time.time()
        for each in (*everything.clients, *everything.mortals):
            each.tell(str(begin + seconds))
        await disturb(everything, begin, seconds)
        reports: list[Any] = await asyncio.gather(*(each.report() for each in everything.clients))
        left = await left_over(everything)
        agents: dict[str, Any] = {}
        for each in everything.agents:
            report = await each.ask()
            agents |= report["exporters"]
            print(pauses("agent", report, begin))
    for report in reports:
        print(pauses("clients", report, begin))
    for line in figures(agents, reports, watch, begin, begin + seconds):
        print(line)
    return list(faults(agents, reports, watch, left))


def main() -> None:
    """Parse, run, print. The exit code is 1 when something was that must not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--exporters", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=60.0, help="so long clients ask (default: %(default)s)")
    arguments = parser.parse_args()
    print(f"{arguments.clients} clients, {arguments.exporters} exporters, load {os.getloadavg()[0]:.1f}", flush=True)
    found = asyncio.run(churn(arguments.clients, arguments.exporters, arguments.seconds))
    print(f"load {os.getloadavg()[0]:.1f}; {len(found)} faults")
    for each in found[:40]:
        print(each)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
