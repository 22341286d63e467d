"""One virtual device, and the way from the state it is in to the one that is wanted.

Nothing is remembered between two looks: a device may be created, switched or removed by others at any time, from
Corellium's web page or by another exporter, and a call may have been cancelled halfway.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeVar

from anyio.to_thread import run_sync

from jsnats.driver import Driver

from .api import Api, Conflict, Gone, Instance, RateLimited

T = TypeVar("T")
Goal = Literal["on", "off", "destroyed"]
Action = Literal["create", "start", "unpause", "stop", "delete"]

ABSENT: Final = "none"
"""The state of a device that there is not; all others are Corellium's: on, off, booting, deleting, creating, restoring,
paused, rebooting, error."""

_REACHED: Final[dict[Goal, set[str]]] = {"on": {"on"}, "off": {"off", ABSENT}, "destroyed": {ABSENT}}
_STOP: Final[dict[str, Action]] = {"on": "stop", "booting": "stop", "rebooting": "stop", "paused": "stop"}
_NEXT: Final[dict[Goal, dict[str, Action]]] = {
    "on": {ABSENT: "create", "off": "start", "paused": "unpause"},
    "off": _STOP,
    "destroyed": {**_STOP, "off": "delete", "error": "delete"},
}
"""What to do in which state; in one that is not here, such as creating, there is nothing to do but wait."""

TRIES: Final = 3
"""How often a look is taken when Corellium does not answer it; what changes something is asked once."""
PATIENCE_S: Final = 60.0
"""A Retry-After that is longer is told instead of waited for."""


class Asleep(ConnectionError):
    """The device does not run, so it has no console."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which device, and what it is made of when it has to be created. `settle_s` is what a change of state may take,
    `interval_s` the time between two looks at it."""

    project: str
    name: str
    flavor: str
    os: str
    build: str
    settle_s: float
    interval_s: float


class Device:
    """The device of a driver, which reports its progress. `changed` is told when it is seen in another state."""

    def __init__(self, driver: Driver, api: Api, wanted: Wanted, changed: Callable[[], None] = lambda: None) -> None:
        self._driver, self._api, self._wanted, self._changed = driver, api, wanted, changed
        self._seen = self._refusal = ""

    async def find(self) -> Instance | None:
        """Look for it. Raises ValueError when there are several of that name, and what `Api` raises."""
        for tries in range(1, TRIES + 1):
            try:
                found = await self._ask(self._api.instances, self._wanted.project)
                break
            except RateLimited:
                raise
            except (ConnectionError, TimeoutError):
                if tries == TRIES:
                    raise
                await asyncio.sleep(self._wanted.interval_s)
        named = [each for each in found if each.name == self._wanted.name]
        if len(named) > 1:
            raise ValueError(f"there are {len(named)} devices {self._wanted.name} in the project: rename or remove one")
        self._note(named[0].state if named else ABSENT)
        return named[0] if named else None

    async def details(self) -> Instance | None:
        """Look for it, consoles included. Raises as `find`."""
        try:
            found = await self.find()
            return await self._ask(self._api.instance, found.id) if found else None
        except Gone:
            return None

    async def reach(self, goal: Goal) -> None:
        """Bring it there, and report progress. What is so already is no error.

        Raises as `find`, TimeoutError when it is not there after `settle_s`, ConnectionError for a device in error,
        ValueError for a flavor, system or build that Corellium does not have.
        """
        settle_s, self._refusal = self._wanted.settle_s, ""
        try:
            async with asyncio.timeout(settle_s) as limit:
                await self._walk(goal)
        except TimeoutError as error:
            if not limit.expired():
                raise
            told = f"{self._wanted.name} is {self._seen or 'not heard of'} after {settle_s:g} s, not {goal}"
            raise TimeoutError(f"{told}: {self._refusal}" if self._refusal else told) from error

    async def console_url(self, console: str) -> str:
        """Return the address of a console by its name. Raises Asleep, ValueError for no such console, as `find`."""
        found = await self.details()
        state = found.state if found else ABSENT
        if not found or state not in ("on", "booting", "rebooting", "paused"):
            raise Asleep(f"{self._wanted.name} is {state}: switch its power on")
        ids = {each.name: each.id for each in found.consoles}
        try:
            if console not in ids:
                raise ValueError(f"{found.name} has no console {console!r}: there is {', '.join(ids) or 'none'}")
            url: str = await self._ask(self._api.console_url, found.id, ids[console])
        except (ValueError, Gone, Conflict) as error:
            if state == "on":
                raise
            raise Asleep(f"{found.name} is {state}: {error}") from error
        return url

    async def _walk(self, goal: Goal) -> None:
        begun = time.monotonic()
        done: set[Action] = set()
        while True:
            found = await self.find()
            state = found.state if found else ABSENT
            busy = bool(found and found.task)
            if state in _REACHED[goal] and not busy:
                return
            self._driver.report_progress(time.monotonic() - begun, None, f"{self._wanted.name} is {state}")
            action = _NEXT[goal].get(state)
            if found and state == "error" and not action:
                raise ConnectionError(f"{found.name} is in error: {found.error or 'no reason told'}: destroy it")
            if action and not busy and action not in done and await self._act(action, found):
                done.add(action)
                continue
            await asyncio.sleep(self._wanted.interval_s)

    async def _act(self, action: Action, found: Instance | None) -> bool:
        """Return whether Corellium took it; it may not, in the middle of something else, and is asked again then."""
        if found is None:
            await self._create()
            return True
        try:
            await self._ask(getattr(self._api, action), found.id)
        except Gone:
            return False
        except (Conflict, ValueError) as error:  # there are no parameters, so a ValueError is about the state
            self._refusal = str(error)
            self._driver.logger.info("no %s of %s now: %s", action, self._wanted.name, error)
            return False
        return True

    async def _create(self) -> None:
        wanted = self._wanted
        models = await self._ask(self._api.models)
        flavor = next((each.flavor for each in models if wanted.flavor in (each.flavor, each.model)), None)
        if flavor is None:
            known = ", ".join(sorted({each.flavor for each in models}))
            raise ValueError(f"{self._api.host} has no flavor {wanted.flavor!r}: there is {known or 'none'}")
        parts = {"project": wanted.project, "name": wanted.name, "os": wanted.os, "build": wanted.build}
        made = await self._ask(self._api.create, flavor=flavor, **parts)
        self._driver.logger.info("created %s, a %s, id %s", wanted.name, flavor, made)

    async def _ask(self, method: Callable[..., Any], *args: Any, **parts: str) -> Any:
        while True:
            try:
                return await _finished(partial(method, *args, **parts))
            except RateLimited as error:
                if error.after_s > PATIENCE_S:
                    raise
                self._driver.logger.info("%s", error)
                await asyncio.sleep(max(error.after_s, self._wanted.interval_s))

    def _note(self, state: str) -> None:
        if state != self._seen:
            self._driver.logger.info("%s is %s", self._wanted.name, state)
            self._seen = state
            self._changed()


async def _finished(work: Callable[[], T]) -> T:
    """Run it in a thread. A caller who gives up leaves when it is done: whoever looks next must see what it did."""
    task = asyncio.create_task(run_sync(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # nobody is there to be told
        raise
