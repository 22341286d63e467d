"""What is done to the calls and the drivers of an exporter when a lease begins and when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jsnats.schemas import CallCancelled, LeaseLost, LeaseRecord, unescape_user

from ._dispatch import Dispatcher
from ._hooks import HookFailed, HookName, Hooks
from ._lifecycle import CLOSE_S, Drivers


class Board:
    """The board of one exporter."""

    def __init__(self, exporter: str, calls: Dispatcher, drivers: Drivers, hooks: Hooks) -> None:
        self.exporter = exporter
        self._calls = calls
        self._drivers = drivers
        self._hooks = hooks

    def has_hook(self, name: HookName) -> bool:
        """Whether there is such a hook."""
        return name in self._hooks.hooks

    def give_to(self, lease: LeaseRecord) -> set[asyncio.Task[None]]:
        """End the calls of everybody but holder, co-holders and hooks; return the tasks that end with them."""
        why = f"cancelled: the lease went to {unescape_user(lease.holder)}"
        return self._calls.end_calls(
            lambda: CallCancelled(why), lambda user: user == self.exporter or lease.admits(user)
        )

    def end_calls(self, reason: str) -> None:
        """End all calls, at once: the lease is lost for that reason."""
        self._calls.end_calls(lambda: LeaseLost(reason))

    async def make_ready(self, lease: LeaseRecord) -> None:
        """Prepare it for a lease. Raises ConfigurationError for drivers that fail to reset, HookFailed."""
        if ending := self.give_to(lease):
            await asyncio.wait(ending, timeout=CLOSE_S)
        await self._drivers.reset()
        await self._hooks.run("beforeLease", lease)

    async def tear_down(self, lease: LeaseRecord, reason: str, hung: Callable[[str], None]) -> HookFailed | None:
        """Do all that the end of a lease asks for, however long a method hangs; return how the hook failed, if it did.

        `hung` is called once, with their paths, if methods hang when all else is done.
        """
        failed = None
        await self._wait_for_calls(reason)
        try:
            await self._hooks.run("afterLease", lease)
        except HookFailed as error:
            failed = error
        await self._wait_for_calls("its hook has ended")
        await self._drivers.close()
        await self._until_back(hung)
        return failed

    async def _wait_for_calls(self, reason: str) -> None:
        """Cancel all calls; wait for them and for the threads of the drivers, CLOSE_S at most."""
        ending = self._calls.end_calls(lambda: LeaseLost(reason))
        await asyncio.gather(self._drivers.settle(), *([asyncio.wait(ending, timeout=CLOSE_S)] if ending else []))

    async def _until_back(self, hung: Callable[[str], None]) -> None:
        """Wait for methods that hang; when they have come back the drivers are closed again."""
        told = False
        while stuck := self._drivers.stuck() | self._calls.still_running():
            if not told:
                hung(", ".join(sorted(set(stuck.values()))))
                told = True
            await asyncio.wait(stuck)
            await self._drivers.close()

    async def open_to_all(self, hung: Callable[[str], None]) -> None:
        """Who calls without a lease finds the drivers as they were when the agent started; `hung` as in `tear_down`."""
        await self._drivers.reopen()
        while self._drivers.stuck():
            await self._until_back(hung)
            await self._drivers.reopen()
