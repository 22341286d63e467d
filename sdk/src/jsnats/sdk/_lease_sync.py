"""A lease for sync code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jsnats.schemas import LeaseLost

from ._lease import AsyncLease
from ._moment import Duration

if TYPE_CHECKING:
    from ._bridge import Bridge


class Lease:
    """A lease of `lab.lease(...)`. `with` takes it and gives the root client of its exporter, or a tuple of them.

    At the end of the block it is given back, however that ends.
    """

    def __init__(self, inner: AsyncLease, bridge: Bridge) -> None:
        self.inner = inner
        self._bridge = bridge

    def __enter__(self) -> Any:
        return self._bridge.run(self.inner.__aenter__())

    def __exit__(self, *exc: object) -> None:
        if self._bridge.alive:
            self._bridge.run(self.inner.give_back())

    @property
    def id(self) -> str:
        """Its id, which commands take."""
        return self.inner.id

    @property
    def boards(self) -> Sequence[str]:
        """Its exporters, in the order of the selectors; empty until it is granted."""
        return self.inner.boards

    @property
    def end(self) -> float:
        """Unix time in s of the broker's clock, 0.0 without an end."""
        return self.inner.end

    @property
    def remaining(self) -> float | None:
        """Seconds that are left; None without an end."""
        return self.inner.remaining

    @property
    def lost(self) -> LeaseLost | None:
        """That it has ended, and why; None as long as it has not."""
        return self.inner.lost

    def take(self) -> None:
        """Ask for it, and wait until its exporters are ready; without `with`, `give_back` ends it."""
        self._bridge.run(self.inner.take())

    def extend(self, by: Duration | None = None, *, until: float | None = None) -> float:
        """Move the end by so long, "-10m" for earlier, or to Unix time `until`; return the new end."""
        return self._bridge.run(self.inner.extend(by, until=until))

    def share(self, *users: str) -> None:
        """Let these users call as well, and nobody else who was let in before."""
        self._bridge.run(self.inner.share(*users))

    def transfer(self, user: str) -> None:
        """Give it to another user. It is not tethered any more, and lost to us."""
        self._bridge.run(self.inner.transfer(user))

    def release(self, reason: str = "") -> None:
        """End it. What runs under it fails."""
        self._bridge.run(self.inner.release(reason))

    def give_back(self) -> None:
        """Release it, if that can be done soon, and watch it no more."""
        self._bridge.run(self.inner.give_back())
