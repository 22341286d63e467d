"""The drivers of one exporter: started and stopped with the agent, reset and closed with each lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Any

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
        await self.reset()

    async def reset(self) -> None:
        """Begin a lease. Raises ConfigurationError with a line for each that failed."""
        await self._each("reset", self._runs("reset"), None)

    async def settle(self) -> None:
        """Wait for the methods that are in a thread, CLOSE_S at most; from then on there are fresh threads."""
        await asyncio.gather(*(runner_of(driver).settle(CLOSE_S) for driver in self.own))

    async def close(self) -> None:
        """End a lease. A fault of one is logged, and the others are closed all the same."""
        await self._in_time("close")

    async def reopen(self) -> None:
        """Reset them after a lease, for who needs none. A fault of one is logged."""
        await self._in_time("reset")

    async def _in_time(self, what: str) -> None:
        await self._log_faults(what, self._runs(what))
        for driver in self.own:
            runner_of(driver).leave_behind()

    def stuck(self) -> dict[asyncio.Future[Any], str]:
        """The methods, by path, that are still in a thread, each with what tells that it has come back."""
        return {
            ended: f"{path}.{name}".lstrip(".")
            for driver, path in self.own.items()
            for ended, name in runner_of(driver).left.items()
        }

    async def end(self) -> None:
        """Close and stop them, once, if they were begun. A fault of one is logged, and the others end all the same."""
        if self._ended:
            return
        self._ended = True
        await self.close()
        for stuck in self.stuck().values():
            log.warning("exporter %s: %s still holds its thread", self.exporter, stuck)
        await self._log_faults("stop", self._starts("stop"))
        for driver in self.own:
            runner_of(driver).stop()

    async def _log_faults(self, what: str, work: Mapping[str, Awaitable[None]]) -> None:
        try:
            await self._each(what, work, END_S)
        except ConfigurationError as error:
            log.error("%s", error)

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
