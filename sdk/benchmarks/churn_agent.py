"""An agent of the churn: several exporters in one process, each with a driver that writes down who was in.

python churn_agent.py DIRECTORY URL NAME:GROUP [NAME:GROUP ...]
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from churn_child import Pauses, Ways, next_line, say
from pydantic.dataclasses import dataclass

from jsnats.agent import Exporter, Spec
from jsnats.driver import Driver, export


@dataclass(kw_only=True, eq=False)
class Turnstile(Driver):
    """Lets one lease in at a time: the next one after the teardown of the last. Whatever else happens is a fault."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.inside = ""
        self.visits: list[dict[str, Any]] = []
        self.faults: list[str] = []

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DynamicClient"

    @export
    async def enter(self, lease: str) -> None:
        """The first call under a lease."""
        if self.inside:
            self.faults.append(f"{lease} came in while {self.inside} was in")
        self.inside = lease
        self.visits.append({"lease": lease, "entered": time.time(), "torn_down": 0.0})

    @export
    async def work(self, lease: str, seconds: float) -> None:
        """Another one, which takes a while."""
        self._check(lease)
        await asyncio.sleep(seconds)
        self._check(lease)

    def _check(self, lease: str) -> None:
        if self.inside != lease:
            self.faults.append(f"{lease} called while {self.inside or 'nobody'} was in")

    def close(self) -> None:
        """A lease was torn down."""
        if self.inside:
            self.visits[-1]["torn_down"] = time.time()
        self.inside = ""


async def main(ways: Ways, names: list[str]) -> None:
    """Serve until asked for the report."""
    drivers: dict[str, Turnstile] = {}
    pauses = Pauses()
    pausing = asyncio.ensure_future(pauses.run())
    async with AsyncExitStack() as stack:
        for each in names:
            name, _, group = each.partition(":")
            drivers[name] = Turnstile()
            spec = Spec(name=name, root=drivers[name], labels={"group": group}, lease="required")
            await stack.enter_async_context(Exporter(spec, ways.of("exporter", name)))
        say("ready")
        await next_line()
        reports = {name: {"visits": each.visits, "faults": each.faults} for name, each in drivers.items()}
        say(json.dumps({"exporters": reports, "pauses": pauses.found}))
        pausing.cancel()


if __name__ == "__main__":
    asyncio.run(main(Ways(Path(sys.argv[1]), sys.argv[2]), sys.argv[3:]))
