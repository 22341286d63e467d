"""Faults of a site behind a link, under everything that a user does: at the site, and as a visitor at its hub.

    python sdk/benchmarks/faults_site.py        # all faults, each on a fresh hub and site
    python sdk/benchmarks/faults_site.py --list
    python sdk/benchmarks/faults_site.py kill-hub half-open --json

A cell is that of `faults.py`. Visitors get errors while the link is away, which are counted and mean no defect; at the
site none is allowed. The last column is the time from the end of the fault until events, logs and consoles at the hub
were the site's, each message with its place, time and bytes. Those that close the link need root, `ip` and `iptables`.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import faults
from faults import Fault, Row, holding, main, running_traffic, through
from faults_traffic import KINDS, Cell

from jsnats.broker.testing import TestLink, running_link
from jsnats.schemas import CONSOLE, EVENTS, LOGS, StreamSpec
from jsnats.sdk import Connection, Context, follow, open_connection

HOLD_S, HALF_OPEN_S = 10.0, 20.0
"""How long faults last; a half-open link longer than it takes to be noticed."""
EQUAL_S = 150.0
SITE, COPIES = "berlin", "history equal"
HISTORY = (EVENTS, LOGS, CONSOLE)
Message = tuple[int, str, float, bytes]


def kill_hub(link: TestLink) -> None:
    """SIGKILL, and a start a while later."""
    link.hub_server.kill()
    holding()
    link.hub_server.start()


def kill_site(link: TestLink) -> None:
    """The same of the site's own broker."""
    link.site_server.kill()
    holding()
    link.site_server.start()


def cut(link: TestLink) -> None:
    """The link is closed, and refused when the site dials again."""
    link.cut()
    holding()
    link.heal()


def half_open(link: TestLink) -> None:
    """What is sent over the link is dropped, and nobody is told."""
    link.cut(silent=True)
    time.sleep(max(holding.seconds, HALF_OPEN_S))
    link.heal()


@dataclass(frozen=True, slots=True)
class SiteFault(Fault):
    """A row of this table. Visitors may see errors while the link is away, and lose nothing."""

    visiting: bool = False

    def is_passed(self, kind: str, cell: Cell) -> bool:
        """See Fault."""
        return not (cell.stuck or cell.wrong) and (kind in self.ends or not cell.errors)


def rows(name: str, text: str, work: Callable[[TestLink], object], *, network: bool = False) -> tuple[SiteFault, ...]:
    """A fault as users at the site see it, and as visitors do."""
    ends = () if name == "none" else tuple(kind.name for kind in KINDS)
    return (
        SiteFault(name, f"{text}: at the site", work, network),
        SiteFault(f"{name}-visitor", f"{text}: a visitor", work, network, ends, visiting=True),
    )


FAULTS = (
    *rows("none", "nothing", lambda _: holding()),
    *rows("kill-hub", "SIGKILL of the hub", kill_hub),
    *rows("cut-link", "the link closed and refused", cut, network=True),
    *rows("half-open", "the link half open", half_open, network=True),
    *rows("kill-site", "SIGKILL of the site's broker", kill_site),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Whose traffic it is: exporters are at the site, users there too, or at the hub as visitors."""

    link: TestLink
    visiting: bool

    def add(self, role: str, name: str) -> Context:
        """Let a principal in."""
        if self.visiting and role == "user":
            return self.link.hub.add(role, name, site=SITE)
        return self.link.site.add(role, name)

    def context(self, name: str) -> Context:
        """The context of a user."""
        return self.link.hub.context(name, site=SITE) if self.visiting else self.link.site.context(name)

    def context_path(self, name: str) -> Path:
        """The context file of an exporter."""
        return self.link.site.context_path(name)


def measure(*faults: SiteFault) -> Row:
    """One row, on a hub and a site of its own; several faults come one after the other, to the users of the first."""
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as folder,
        running_link(network=any(fault.network for fault in faults)) as link,
        running_traffic(Place(link, faults[0].visiting), Path(folder)) as traffic,
    ):
        asyncio.run(caught_up(link))
        ends: list[float] = []
        row = through(traffic, [partial(timed, fault, link, ends) for fault in faults])
        return row | {COPIES: asyncio.run(compare(link, ends[-1]))}


def timed(fault: SiteFault, link: TestLink, ends: list[float]) -> None:
    """Make a fault, and note when it is over."""
    fault.work(link)
    ends.append(time.monotonic())


# ---------------------------------------------------------------------- history at both ends


@asynccontextmanager
async def both_ends(link: TestLink) -> AsyncIterator[tuple[Connection, Connection]]:
    """Connections of the admins of the site, and of its account at the hub."""
    site = await open_connection(link.site.context("broker"))
    hub = await open_connection(link.hub.context("broker", site=SITE))
    try:
        yield site, hub
    finally:
        await site.close()
        await hub.close()


async def caught_up(link: TestLink) -> dict[str, int]:
    """Wait until the hub has what the site has now: return where each stream of it ends. Raises TimeoutError."""
    async with both_ends(link) as (site, hub), asyncio.timeout(EQUAL_S):
        ends = {spec.name: await _end(site, spec) for spec in HISTORY}
        for spec in HISTORY:
            while await _end(hub, spec) < ends[spec.name]:
                await asyncio.sleep(0.1)
    return ends


async def compare(link: TestLink, since: float) -> Cell:
    """Wait until the hub has what the site has now, and compare it, message by message."""
    cell = Cell()
    try:
        ends = await caught_up(link)
    except TimeoutError:
        cell.errors.append(f"not equal after {EQUAL_S:g} s")
        return cell
    cell.stall = time.monotonic() - since
    async with both_ends(link) as (site, hub):
        for spec in HISTORY:
            cell.count += await _compare(cell, site, hub, spec, ends[spec.name])
    return cell


async def _compare(cell: Cell, site: Connection, hub: Connection, spec: StreamSpec, end: int) -> int:
    real, copy = await _messages(site, spec, end), await _messages(hub, spec, end)
    if real != copy:
        cell.wrong.append(f"{spec.name}: {len(set(real) - set(copy))} missing, {len(set(copy) - set(real))} others")
    return len(real)


async def _end(nc: Connection, spec: StreamSpec) -> int:
    return int((await nc.api(f"STREAM.INFO.{spec.name}"))["state"]["last_seq"])


async def _messages(nc: Connection, spec: StreamSpec, end: int) -> list[Message]:
    found: list[Message] = []
    if not end:
        return found
    async with aclosing(follow(nc, spec.name, spec.subjects)) as stored:
        async for each in stored:
            found.append((each.sequence, each.message.subject, each.stored, bytes(each.message.data)))
            if each.sequence >= end:
                break
    return found


if __name__ == "__main__":
    faults.RECOVER_S = EQUAL_S
    main(FAULTS, measure, __doc__, HOLD_S)
