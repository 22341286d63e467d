"""What it costs to have data on the disk before it is acknowledged: `--sync` of the broker. See README.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from churn_child import Child

from jsnats.broker import LabDir, run_broker
from jsnats.sdk import AsyncLab, Context, connect_async, put_record

SETTINGS = ("2m", "10s", "always")
EXPORTERS = 8
SECONDS = 1.5
CALLERS, CALLS = 32, 3200
ITEMS = 60_000
RECORDS = 400
IMAGE = 32 << 20
STORE = 4_000_000_000

Row = Callable[[list[AsyncLab]], Awaitable[float]]


async def grants(labs: list[AsyncLab]) -> float:
    """Leases per second, each taken and given back; as many clients as exporters."""
    end = time.monotonic() + SECONDS

    async def take(number: int) -> int:
        count = 0
        while time.monotonic() < end:
            async with labs[number].lease(exporter=name(number)):
                count += 1
        return count

    return sum(await asyncio.gather(*(take(number) for number in range(EXPORTERS)))) / SECONDS


async def calls(labs: list[AsyncLab]) -> float:
    """Calls per second, each with its event."""
    client = await labs[0].exporter(name(0))

    async def call() -> None:
        for number in range(CALLS // CALLERS):
            await client.call_async("ping", number)

    begin = time.monotonic()
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    return CALLS / (time.monotonic() - begin)


async def items(labs: list[AsyncLab]) -> float:
    """Items of a stream of results per second, every batch of them stored."""
    client = await labs[0].exporter(name(0))
    begin, count = time.monotonic(), 0
    async for _ in client.streamingcall_async("items", ITEMS):
        count += 1
    assert count == ITEMS
    return count / (time.monotonic() - begin)


async def upload(labs: list[AsyncLab]) -> float:
    """MB per second of an image."""
    image = os.urandom(IMAGE)
    begin = time.monotonic()
    await labs[0].blobs.put(image)
    return IMAGE / 1e6 / (time.monotonic() - begin)


async def records(labs: list[AsyncLab]) -> float:
    """Stored messages per second, each when the one before is acknowledged: what a round trip to the disk adds."""
    connection, subject = labs[-1].connection, "$KV.jsnats_lab.exporter.none"
    begin = time.monotonic()
    for number in range(RECORDS):
        await put_record(connection, subject, b'{"comment": "%d"}' % number)
    return RECORDS / (time.monotonic() - begin)


ROWS: dict[str, Row] = {
    "records/s, one by one": records,
    "lease grants/s": grants,
    "calls/s": calls,
    "stream items/s": items,
    "upload MB/s": upload,
}


def name(number: int) -> str:
    """Of an exporter."""
    return f"bench-{number}"


async def export(creds: Path) -> None:
    """Serve all exporters until killed: a process of its own."""
    from bench import Bench

    from jsnats.agent import Exporter, Spec

    async with AsyncExitStack() as stack:
        for number in range(EXPORTERS):
            context = Context.load(creds / f"exporter-{name(number)}.json")
            await stack.enter_async_context(Exporter(Spec(name=name(number), root=Bench()), context))
        print("ready", flush=True)
        await asyncio.Event().wait()


@asynccontextmanager
async def labs(sync: str, folder: Path) -> AsyncIterator[list[AsyncLab]]:
    """A broker with that setting, the exporters, a connection for each client, and one for the admin."""
    async with AsyncExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True))
        lab = LabDir(place)
        broker = await stack.enter_async_context(run_broker(place, total_bytes=STORE, sync=sync))
        for number in range(EXPORTERS):
            await broker.add("exporter", name(number))
            await broker.add("user", f"user-{number}")
        agent = await Child.start(__file__, "exporters", lab.creds)
        stack.push_async_callback(agent.process.wait)
        stack.callback(agent.kill)
        connect = (connect_async(context=broker.context(f"user-{number}")) for number in range(EXPORTERS))
        admin = connect_async(context=broker.context())
        yield [*[await stack.enter_async_context(each) for each in connect], await stack.enter_async_context(admin)]


def fsync_ms(folder: Path) -> float:
    """Median of what the disk takes to have 4 KiB."""
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(200):
            begin = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(taken)


Round = dict[str, dict[str, float]]
"""By row, then by setting."""


def table(rounds: list[Round]) -> list[str]:
    """The best of all rounds, which other work on the machine disturbs least; in parentheses the median of the ratios
    within a round."""
    lines = ["| | " + " | ".join(SETTINGS) + " |", "|---|" + "---|" * len(SETTINGS)]
    for title in ROWS:
        best = {sync: max(each[title][sync] for each in rounds) for sync in SETTINGS}
        cells = [f"{best[SETTINGS[0]]:.0f}"]
        for sync in SETTINGS[1:]:
            ratio = statistics.median(each[title][sync] / each[title][SETTINGS[0]] for each in rounds)
            cells.append(f"{best[sync] / best[SETTINGS[0]]:.2f}x ({ratio:.2f}x)")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


async def measured(rounds: int, folder: Path) -> list[Round]:
    """All brokers run all the time, and each row takes them in turn: figures that are compared are a second apart."""
    found: list[Round] = []
    async with AsyncExitStack() as stack:
        clients = {sync: await stack.enter_async_context(labs(sync, folder)) for sync in SETTINGS}
        for number in range(rounds):
            turn = number % len(SETTINGS)
            order = SETTINGS[turn:] + SETTINGS[:turn]
            found.append({title: {sync: await row(clients[sync]) for sync in order} for title, row in ROWS.items()})
            print(f"round {number + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return found


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="on the disk in question")
    parser.add_argument("--json", action="store_true", help="all figures, for a program")
    arguments = parser.parse_args()
    rounds = asyncio.run(measured(arguments.rounds, arguments.dir))
    if arguments.json:
        print(json.dumps({"fsync_ms": fsync_ms(arguments.dir), "rounds": rounds}, indent=1))
        return
    print(f"fsync of 4 KiB there: {fsync_ms(arguments.dir):.2f} ms")
    print("\n".join(table(rounds)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["exporters"]:
        asyncio.run(export(Path(sys.argv[2])))
    else:
        main()
