"""An agent follows the files that it hosts: an exporter that is written anew is made anew, the others are left alone.

One that is held is made anew after its lease; one that has gone from the files is stopped then. Exporters that refer to
each other's drivers change together, when none of them is held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from jsnats.schemas import ConfigurationError

from ._agent import Agent, Hosted, hosting
from ._config import LoadedExporter, load

log = logging.getLogger("jsnats.agent")

LOOK_S = 0.5
"""How often the files are looked at. One is read when it has stayed the same for two looks: it may still be written."""

Stamp = tuple[int, int, int]


async def run_files(
    paths: Sequence[Path], loaded: Sequence[LoadedExporter], host: Callable[[LoadedExporter], Hosted]
) -> None:
    """Host the exporters `loaded` from files until cancelled, waiting for their brokers, and follow the files.

    `host` says how one is hosted, and may raise ConfigurationError. Raises what failed when none is left.
    """
    async with hosting([host(each) for each in loaded], patient=True) as agent:
        following = asyncio.create_task(Reloader(paths, loaded, host, agent).run(), name="exporter files")
        try:
            await agent.ended()
        finally:
            following.cancel()
            await asyncio.wait({following})
        raise agent.failure()


class Reloader:
    """Makes what an agent hosts what the files say."""

    def __init__(
        self,
        paths: Sequence[Path],
        loaded: Sequence[LoadedExporter],
        host: Callable[[LoadedExporter], Hosted],
        agent: Agent,
    ) -> None:
        self._paths = paths
        self._host = host
        self._agent = agent
        self._running = {each.name: each for each in loaded}
        self._wanted = dict(self._running)
        self._hosted: dict[str, Hosted] = {}
        self._read = self._seen = self._stamps()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:
                log.exception("following the exporter files")

    async def look(self) -> None:
        """Read what has changed, and change what can be changed now."""
        stamps, before = self._stamps(), self._seen
        self._seen = stamps
        fresh = stamps == before != self._read
        if fresh:
            self._read = stamps
            await self._load()
        changed = {name for name in self._running.keys() | self._wanted if self._differs(name)}
        for name, exporter in self._agent.running.items():
            if name not in changed:
                exporter.keeper.carry_on()
        for group in _groups(changed, [*self._running.values(), *self._wanted.values()]):
            if self._retired(group):
                await self._change(group)
            elif fresh:
                log.info("%s: the file has changed, which counts when the lease is over", ", ".join(sorted(group)))

    def _stamps(self) -> list[Stamp | None]:
        return [_stamp(path) for path in self._paths]

    async def _load(self) -> None:
        try:  # in a thread: the exporters go on
            loaded = await asyncio.to_thread(load, self._paths, self._running)
            new = [each for each in loaded if each is not self._running.get(each.name)]
            self._hosted = {each.name: self._host(each) for each in new}
        except ConfigurationError as error:
            log.error("what is hosted stays as it is: %s", error)
            return
        self._wanted = {each.name: each for each in loaded}

    def _differs(self, name: str) -> bool:
        return self._running.get(name) is not self._wanted.get(name)

    def _retired(self, group: Iterable[str]) -> bool:
        """Whether none of a group is held; a single one takes no further lease."""
        keepers = [self._agent.running[name].keeper for name in group if name in self._agent.running]
        if len(keepers) > 1 and any(keeper.state != "available" for keeper in keepers):
            return False
        return all(keeper.retire() for keeper in keepers)

    async def _change(self, group: set[str]) -> None:
        await self._agent.stop(group)
        for name in sorted(group):
            wanted = self._wanted.get(name)
            if wanted is None:
                log.info("exporter %s has gone from the files and was stopped", name)
                del self._running[name]
                await self._agent.forget(name)
            else:
                log.info("exporter %s: hosted as its file says now", name)
                self._running[name] = wanted
                self._agent.start(self._hosted[name])


def _stamp(path: Path) -> Stamp | None:
    with suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino
    return None


def _groups(names: set[str], exporters: Sequence[LoadedExporter]) -> list[set[str]]:
    """Those of `names` that refer to each other, together."""
    groups = [{name} for name in sorted(names)]
    links = [{each.name, *each.refers_to} & names for each in exporters]
    for link in links:
        joined = [group for group in groups if group & link]
        if len(joined) > 1:
            groups = [group for group in groups if group not in joined] + [set().union(*joined)]
    return groups
