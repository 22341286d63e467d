"""The drivers of one exporter, begun and ended together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping

from jsnats.driver import Driver, Node
from jsnats.schemas import ConfigurationError

from ._runner import runner_of

log = logging.getLogger("jsnats.agent")

CLOSE_S = 10.0
"""How long teardown waits for a driver's thread before it goes on without it."""
END_S = 2 * CLOSE_S
"""How long one driver's close or stop may take altogether."""


class Drivers:
    """The drivers that belong to a tree: those below `root`, not the ones it only refers to in another exporter's.

    `own` has their paths.
    """

    def __init__(self, exporter: str, root: Driver, nodes: dict[str, Node]) -> None:
        self.exporter = exporter
        self._ended = True
        # A driver that stands in several places is one driver, known by the first.
        self.own = {node.driver: path for path, node in reversed(nodes.items()) if _top(node.driver) is root}
        for driver in self.own:
            vars(driver)["_exporter"] = exporter  # its logger says whose it is

    async def begin(self) -> None:
        """Start and reset them. Raises ConfigurationError with a line for each that failed."""
        self._ended = False
        await self._each("start", self._starts("start"), None)
        await self._each("reset", self._runs("reset"), None)

    async def end(self) -> None:
        """Close and stop them, once, if they were begun. A fault of one is logged, and the others end all the same."""
        if self._ended:
            return
        self._ended = True
        for driver, path in self.own.items():
            if stuck := runner_of(driver).stuck:
                log.warning("exporter %s: %s.%s still holds its thread", self.exporter, path, stuck)
        for what, work in (("close", self._runs), ("stop", self._starts)):
            try:
                await self._each(what, work(what), END_S)
            except ConfigurationError as error:
                log.error("%s", error)
        for driver in self.own:
            runner_of(driver).stop()

    def _starts(self, name: str) -> Mapping[str, Awaitable[None]]:
        return {path: getattr(driver, name)() for driver, path in self.own.items()}

    def _runs(self, name: str) -> dict[str, Awaitable[None]]:
        return {path: runner_of(driver).lifecycle(name, CLOSE_S) for driver, path in self.own.items()}

    async def _each(self, what: str, work: Mapping[str, Awaitable[None]], limit_s: float | None) -> None:
        """Do it for all drivers in parallel, each within `limit_s`; report all failures by path."""
        results = await asyncio.gather(*(_within(limit_s, each) for each in work.values()), return_exceptions=True)
        faults = [
            f"{path or 'root'}: {what} failed: {type(error).__name__}: {error}"
            for path, error in zip(work, results, strict=True)
            if isinstance(error, BaseException)
        ]
        if faults:
            raise ConfigurationError(f"exporter {self.exporter}: " + "; ".join(faults), faults)


async def _within(limit_s: float | None, work: Awaitable[None]) -> None:
    async with asyncio.timeout(limit_s):
        await work


def _top(driver: Driver) -> Driver:
    while driver.parent is not None:
        driver = driver.parent
    return driver
