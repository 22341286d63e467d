"""What is measured, once for all systems: the shapes of argument and item, the loops, the clock.

Only the standard library, because it also runs in the virtual environment of Jumpstarter.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

ARGUMENT = {"seq": 1, "voltage": 5.0, "name": "vdd"}
WARM_UP = 200
CALLS = 1000
AT_ONCE = 32
CONCURRENT_CALLS = 3200
SHORT_STREAMS = 20
SHORT_ITEMS = 200

Figures = dict[str, float]
Row = Callable[[], Figures]


def item(index: int) -> dict[str, Any]:
    """One item of the stream."""
    return {"seq": index, "ts": 1700000000.5, "voltage": 5.0, "current": 0.25}


def latencies(seconds: list[float]) -> Figures:
    """Median and 99th percentile in microseconds."""
    ordered = sorted(seconds)
    return {"p50": 1e6 * ordered[len(ordered) // 2], "p99": 1e6 * ordered[int(len(ordered) * 0.99)]}


def sync_call(call: Callable[[], Any]) -> Figures:
    """Latency of calls one after the other, from code without an event loop."""
    for _ in range(WARM_UP):
        assert call() == ARGUMENT
    taken = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return latencies(taken)


async def async_call(call: Callable[[], Awaitable[Any]]) -> Figures:
    """Latency of calls one after the other, on the event loop that also reads the socket."""
    for _ in range(WARM_UP):
        assert await call() == ARGUMENT
    taken = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - begin)
    return latencies(taken)


async def concurrent(call: Callable[[], Awaitable[Any]]) -> Figures:
    """Calls per second with 32 of them open at any time."""

    async def one_after_the_other(count: int) -> None:
        for _ in range(count):
            await call()

    await one_after_the_other(WARM_UP)
    begin = time.perf_counter()
    await asyncio.gather(*(one_after_the_other(CONCURRENT_CALLS // AT_ONCE) for _ in range(AT_ONCE)))
    return {"calls_s": CONCURRENT_CALLS / (time.perf_counter() - begin)}


def stream(items: Callable[[int], Iterable[Any]], count: int) -> Figures:
    """Items per second of one long stream, read by sync code."""
    for each in items(WARM_UP):
        assert each.keys() == item(0).keys()
    expected = 0
    begin = time.perf_counter()
    for each in items(count):
        assert each["seq"] == expected  # each once and in order, or the figure is worth nothing
        expected += 1
    taken = time.perf_counter() - begin
    assert expected == count
    return {"items_s": count / taken}


def first_item(items: Callable[[int], Iterable[Any]]) -> Figures:
    """Milliseconds from the call of a generator to its first item, median of several streams."""
    taken = []
    for _ in range(SHORT_STREAMS):
        first = 0.0
        begin = time.perf_counter()
        for _each in items(SHORT_ITEMS):
            first = first or time.perf_counter()
        taken.append(first - begin)
    return {"ms": 1e3 * statistics.median(taken)}


def timed_ms(work: Callable[[], Any]) -> Figures:
    """Milliseconds that `work()` takes."""
    begin = time.perf_counter()
    work()
    return {"ms": 1e3 * (time.perf_counter() - begin)}


def moved(work: Callable[[], Any], size: int) -> Figures:
    """MB/s of `work()`, which moves `size` bytes."""
    begin = time.perf_counter()
    work()
    return {"mb_s": size / 1e6 / (time.perf_counter() - begin)}


def answer(rows: dict[str, Row]) -> None:
    """Serve run.py: the name of a row comes in on a line, its figures go out as JSON on a line."""
    print("ready", flush=True)
    for line in sys.stdin:
        gc.collect()  # garbage of the row before is not this row's
        print(json.dumps(rows[line.strip()]()), flush=True)
