"""jsnats: the exporter process and the client process.

python side_jsnats.py exporter CONTEXT
python side_jsnats.py client CONTEXT
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import measure

from jsnats.client import DriverClient
from jsnats.sdk import AsyncLab, Context, Lab, connect, connect_async

EXPORTER = "bench"
ITEMS = 200_000
HANDOVERS = 50
"""By each of two clients."""


async def export(context: Context) -> None:
    """Serve until killed."""
    from bench import Bench

    from jsnats.agent import Exporter, Spec
    from jsnats_driver_power.driver import MockPower

    async with Exporter(Spec(name=EXPORTER, root=Bench(children={"power": MockPower()})), context) as exporter:
        print("ready", flush=True)
        await exporter.lost.wait()


def on_loop(context: Context, work: Callable[[Any], Awaitable[measure.Figures]]) -> measure.Figures:
    """Run an async row with a connection of its own."""

    async def run() -> measure.Figures:
        async with connect_async(context=context) as lab:
            client = await lab.exporter(EXPORTER)
            return await work(lambda: client.call_async("ping", measure.ARGUMENT))

    return asyncio.run(run())


def killed(client: DriverClient, context: Context) -> measure.Figures:
    """Seconds until a caller notices that the agent was killed while the call ran."""
    victim = client.call("process")

    async def run() -> float:
        async with connect_async(context=context) as lab:
            other = await lab.exporter(EXPORTER)
            call = asyncio.ensure_future(other.call_async("sleep", 600))
            await asyncio.sleep(0)  # it is sent
            await other.call_async("ping", 1)  # so it had arrived
            os.kill(victim, signal.SIGKILL)
            begin = time.perf_counter()
            await asyncio.wait({call})
            assert call.exception() is not None
            return time.perf_counter() - begin

    return {"s": asyncio.run(run())}


def handover(context: Context) -> measure.Figures:
    """Milliseconds from the release of a lease to the next holder's first call, by two clients that both want it."""
    released, taken = [0.0], []

    async def compete() -> None:
        async with connect_async(context=context) as lab:
            for _ in range(HANDOVERS):
                lease = lab.lease(exporter=EXPORTER)
                async with lease as bench:
                    await bench.call_async("ping", measure.ARGUMENT)
                    taken.append(time.perf_counter() - released[0])
                    await until_waited_for(lab)
                    released[0] = time.perf_counter()

    async def run() -> None:
        await asyncio.gather(compete(), compete())

    asyncio.run(run())
    ordered = sorted(taken[1:])
    return {"p50": 1e3 * ordered[len(ordered) // 2], "p99": 1e3 * ordered[int(len(ordered) * 0.99)]}


async def until_waited_for(lab: AsyncLab) -> None:
    """Let the other one queue up, or come to its end."""
    for _ in range(20):
        if await lab.queue():
            return
        await asyncio.sleep(0.01)


def serve_rows(lab: Lab, context: Context) -> None:
    """Answer run.py."""
    client = lab.exporter(EXPORTER)
    items = partial(client.streamingcall, "items")
    measure.answer(
        {
            "sync_call": lambda: measure.sync_call(lambda: client.call("ping", measure.ARGUMENT)),
            "async_call": lambda: on_loop(context, measure.async_call),
            "concurrent": lambda: on_loop(context, measure.concurrent),
            "stream": lambda: measure.stream(items, ITEMS),
            "first_item": lambda: measure.first_item(items),
            "inventory": lambda: measure.timed_ms(lab.exporters),
            "handover": lambda: handover(context),
            "killed": lambda: killed(client, context),
        }
    )


if __name__ == "__main__":
    way_in = Context.load(Path(sys.argv[2]))
    if sys.argv[1] == "exporter":
        asyncio.run(export(way_in))
    else:
        with connect(context=way_in) as opened:
            serve_rows(opened, way_in)
