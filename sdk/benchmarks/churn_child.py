"""What the processes of the churn have in common: lines in, lines out."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jsnats.sdk import Context

TICK_S, PAUSE_S = 0.05, 0.25
LINE = 64 << 20
"""Bytes that a report may have."""


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways in: context files in `directory`, for the broker at `url`."""

    directory: Path
    url: str

    def of(self, role: str, name: str) -> Context:
        """That of a principal."""
        return replace(Context.load(self.path(role, name)), url=self.url)

    def path(self, role: str, name: str) -> Path:
        """Its file."""
        return self.directory / f"{role}-{name}.json"


def say(line: str) -> None:
    """Tell the parent."""
    print(line, flush=True)


async def next_line() -> str:
    """What the parent says next."""
    return await asyncio.to_thread(sys.stdin.readline)


class Pauses:
    """When the event loop of this process did not turn for so long that it matters, and how much of that it computed:
    for the rest the machine was busy."""

    def __init__(self) -> None:
        self.found: list[tuple[float, float, float]] = []

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            begin, used = time.time(), time.process_time()
            await asyncio.sleep(TICK_S)
            if (pause := time.time() - begin - TICK_S) > PAUSE_S:
                self.found.append((begin, pause, time.process_time() - used))


class Child:
    """A process that says one line when it is ready, and a report when it is asked. It is killed at the end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, *command: object) -> Child:
        """Start it, and wait until it is ready."""
        pipe = asyncio.subprocess.PIPE
        inner = await asyncio.create_subprocess_exec(
            sys.executable, *map(str, command), stdin=pipe, stdout=pipe, limit=LINE
        )
        child = cls(inner)
        await child.line()
        return child

    async def line(self) -> str:
        """The next line. Raises SystemExit if it has ended."""
        assert self.process.stdout
        line = await self.process.stdout.readline()
        if not line:
            raise SystemExit("a process of the churn has ended, see above")
        return line.decode()

    async def ask(self) -> Any:
        """Have it report."""
        self.tell("report")
        return await self.report()

    async def report(self) -> Any:
        """What it reports unasked."""
        return json.loads(await self.line())

    def tell(self, what: str) -> None:
        """Say a line to it."""
        assert self.process.stdin
        self.process.stdin.write(f"{what}\n".encode())

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.returncode is None:
            self.process.kill()
