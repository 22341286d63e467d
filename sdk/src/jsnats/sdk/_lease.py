"""A lease, from the request to the release: waited for, renewed, watched, given back.

Its records are watched while it is held (`_lease_hold.py`). When one is gone, or is of another lease, every call that
runs under this one fails with LeaseLost, and so does every later one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from jsnats.schemas import (
    LAB,
    AccessDenied,
    BrokerUnfit,
    CallError,
    JsnatsError,
    LeaseEnd,
    LeaseLost,
    LeaseNotFound,
    escape_user,
    queue_key,
)

from ._claim import Claim, end_text
from ._lease_desk import ANSWER_S, LeaseDesk
from ._lease_hold import Hold
from ._lease_wait import OnWait, in_the_way, telling, wait_end
from ._lease_wanted import Wanted
from ._mirror import mirrored
from ._moment import Duration, signed_seconds

if TYPE_CHECKING:
    from jsnats.client import DriverClient

    from ._lab import AsyncLab

T = TypeVar("T")
log = logging.getLogger("jsnats.lease")

RENEW_S = 8.0
RETRY_S = 1.0
RELEASE_S, ELECTED_S = 5.0, 15.0
"""How long the end of a block waits to give its lease back; in a cluster, which may be electing a leader."""
"""How long the end of a block waits for the scheduler. A tethered lease ends without it, too."""


class AsyncLease:
    """A lease of `lab.lease(...)`. `async with` takes it and gives the root client of its exporter, or a tuple of them.

    `boards` are its exporters, in the order of the selectors; empty until it is `granted`. `over` is set when it has
    ended without our doing, `lost` then says why; `on_change` is called when something about it may have changed.
    """

    def __init__(self, lab: AsyncLab, asked: Wanted, on_wait: OnWait | None = None) -> None:
        self.id = secrets.token_hex(8)
        self.asked = asked
        self.boards: tuple[str, ...] = ()
        self._granted_at = 0
        self.granted = asyncio.Event()
        self.over = asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None
        self.hold: Hold | None = None
        self._lab = lab
        self._desk = LeaseDesk(lab.connection)
        self.on_wait = on_wait
        self._claims: list[Claim] = []
        self._why = ""
        self._asked = self._done = False
        self._keeping: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ what it is

    @property
    def end(self) -> float:
        """Unix time in s of the broker's clock; 0.0 without an end, and before it is granted."""
        return self.hold.record.end if self.hold and self.hold.record else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds that are left; None without an end."""
        return max(0.0, self.end - self.hold.now()) if self.hold and self.end else None

    @property
    def lost(self) -> LeaseLost | None:
        """That it has ended, and why; None as long as it has not, or has been given back."""
        return LeaseLost(self._why) if self._why else None

    # ------------------------------------------------------------------ taking it

    async def __aenter__(self) -> DriverClient | tuple[DriverClient, ...]:
        await self.take()
        try:
            clients = await asyncio.gather(*(self._lab.exporter(name) for name in self.boards))
        except BaseException:
            await self.give_back()
            raise
        return clients[0] if len(clients) == 1 else tuple(clients)

    async def __aexit__(self, *exc: object) -> None:
        await self.give_back()

    async def take(self) -> None:
        """Ask for it, and wait until its exporters are ready.

        Raises NoMatch for selectors that nothing ever fits, LeaseLost when the wait ends without a grant, PolicyDenied,
        InvalidArgument, BrokerError.
        """
        try:
            await self._wait()
            await self._prepare()
        except BaseException:
            await self.give_back()
            raise

    async def _wait(self) -> None:
        connection, asked = self._lab.connection, self.asked
        async with mirrored(connection, LAB.name, queue_key(self.id)) as queue:
            patience = {} if asked.wait is None else {"patience_s": asked.wait}
            self._asked = True
            try:
                await self._desk.own("create", id=self.id, **asked.fields(), **patience)
            except (CallError, BrokerUnfit):
                self._asked = False  # refused: there is nothing to give back
                raise
            self._keeping = asyncio.ensure_future(self._keep())
            async with telling(connection, self.id, self.on_wait):
                end = await self._unless_over(wait_end(queue, self.id))
                self._granted_at = queue.revision(queue_key(self.id))
        if not end.boards:
            raise LeaseLost(await self._why_none(end))
        self.boards = tuple(end.boards)

    async def _why_none(self, end: LeaseEnd) -> str:
        text = f"nothing was granted: {end_text(end) or 'the wait has ended'}"
        ways = "" if end.by else in_the_way(await self._lab.snapshot(), self.asked.selectors)
        return f"{text}: {ways}" if ways else text

    async def _prepare(self) -> None:
        connection, granted = self._lab.connection, self._granted_at
        self.hold = Hold(connection, self.id, self.boards, granted, lambda: self.on_change(), self._lose)
        await self.hold.__aenter__()
        self.granted.set()
        await self._unless_over(self.hold.ready.wait())
        self._claims = [Claim(board, self.hold.records[board].epoch, self._lose) for board in self.boards]
        self._lab.claims.update({claim.exporter: claim for claim in self._claims})

    async def _unless_over(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises LeaseLost if the lease ends before."""
        waited, over = asyncio.ensure_future(work), asyncio.ensure_future(self.over.wait())
        try:
            await asyncio.wait({waited, over}, return_when=asyncio.FIRST_COMPLETED)
            if self._why:
                raise LeaseLost(self._why)
            return waited.result()
        finally:
            waited.cancel()
            over.cancel()
            await asyncio.gather(waited, over, return_exceptions=True)

    # ------------------------------------------------------------------ holding it

    async def _keep(self) -> None:
        """Renew a tethered lease or wait, for as long as this runs, however long the broker is away."""
        tether = self.asked.tether
        while tether:
            await asyncio.sleep(min(RENEW_S, tether / 4))
            try:
                await self._desk.own("renew", id=self.id, answer_s=min(ANSWER_S, tether / 4))
            except (LeaseNotFound, AccessDenied) as error:
                await asyncio.sleep(RETRY_S)  # the deletion marker, which is on its way, knows the reason
                self._lose(str(error))
                return
            except (JsnatsError, TimeoutError) as error:
                log.debug("lease %s was not renewed: %s", self.id, error)
                await asyncio.sleep(RETRY_S)

    def _lose(self, why: str) -> None:
        """It has ended: what runs under it fails now, what is begun later at once."""
        if self._why or self._done:
            return
        what = f" of {', '.join(self.boards)}" if self.boards else ""
        self._why = f"the lease{what} has ended: {why}"
        self._disclaim(self._why)
        self.over.set()
        self.on_change()

    def _disclaim(self, why: str) -> None:
        for claim in self._claims:
            if self._lab.claims.get(claim.exporter) is claim:
                del self._lab.claims[claim.exporter]
            self._lab.caller.lose(claim, why)

    # ------------------------------------------------------------------ changing it

    async def extend(self, by: Duration | None = None, *, until: float | None = None) -> float:
        """Move the end by so long, "-10m" for earlier, or to Unix time `until`; return the new end.

        Raises LeaseNotFound, PolicyDenied, Busy when a booking is in the way.
        """
        end = until if until is not None else self.end + signed_seconds(by or 0.0)
        return float((await self._desk.any("extend", id=self.id, end=end))["end"])

    async def share(self, *users: str) -> None:
        """Let these users call as well, and nobody else who was let in before. Raises LeaseNotFound."""
        await self._desk.any("share", id=self.id, users=[escape_user(user) for user in users])

    async def transfer(self, user: str) -> None:
        """Give it to another user. It is not tethered any more, and lost to us. Raises LeaseNotFound."""
        await self._desk.any("transfer", id=self.id, to=escape_user(user))

    async def release(self, reason: str = "") -> None:
        """End it, or give up the place in the queue. What runs under it fails. Raises BrokerError."""
        if self._done:
            return
        self._done = True
        self._disclaim(f"the lease of {', '.join(self.boards)} has been given back")
        if self._asked and not self.over.is_set():
            fields: dict[str, Any] = {"reason": reason} if reason else {}
            with suppress(LeaseNotFound):
                await self._desk.any("release", id=self.id, **fields)

    async def give_back(self) -> None:
        """Release it, if that can be done soon, and watch it no more. A tethered lease ends by itself otherwise."""
        try:
            async with asyncio.timeout(ELECTED_S if self._lab.connection.clustered else RELEASE_S):
                await self.release()
        except (JsnatsError, TimeoutError) as error:
            log.warning("the lease %s was not given back: %s", self.id, str(error) or "no scheduler answers")
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Watch and renew it no more; an untethered lease goes on to its end."""
        self._done = True
        if self._keeping:
            self._keeping.cancel()
        if self.hold:
            await self.hold.__aexit__()
