"""Records about leases, all in the bucket `jsnats_lab`, all written by the scheduler only.

Times are Unix seconds in the broker's clock, which everybody can read and which nobody's wrong clock disturbs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from ._records import _Record


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord(_Record):
    """Who holds an exporter, under `lease.<exporter>`; no record: nobody.

    `epoch` is the revision of the grant: 0 in the grant itself, copied unchanged by whatever is written later (see
    `at`). `end` 0 is no end. `boards` are all exporters of the lease, `tether` the grace in seconds after which a
    lease whose holder is not heard ends, 0 for one that ends at its end only.
    """

    holder: str
    id: str = ""
    epoch: int = 0
    begin: float = 0.0
    end: float = 0.0
    tether: float = 0.0
    co_holders: list[str] = field(default_factory=list)
    boards: list[str] = field(default_factory=list)
    note: str = ""

    def at(self, revision: int) -> Self:
        """The record with its epoch filled in, as read at `revision`."""
        return self if self.epoch else replace(self, epoch=revision)

    def admits(self, user: str) -> bool:
        """Say whether that user may call."""
        return user == self.holder or user in self.co_holders


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRecord(_Record):
    """Somebody who waits, under `queue.<id>`; the lease will have the same id.

    One exporter for each of `selectors`, all of them or none, for `duration` seconds from the grant on. `arrival` is
    the revision of the first version: 0 in that one, copied later. `until` is when the wait is given up, 0 for never.
    """

    user: str
    selectors: list[str]
    duration: float
    priority: int = 0
    tether: float = 0.0
    arrival: int = 0
    asked: float = 0.0
    until: float = 0.0
    note: str = ""

    def at(self, revision: int) -> Self:
        """The record with its arrival filled in, as read at `revision`."""
        return self if self.arrival else replace(self, arrival=revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookingRecord(_Record):
    """Exporters that somebody will have from `begin` to `end`, under `booking.<id>`; so is the lease."""

    user: str
    boards: list[str]
    begin: float
    end: float
    asked: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterNote(_Record):
    """What an admin says of an exporter, under `exporter.<name>`: a disabled one is never granted."""

    disabled: bool = False
    comment: str = ""
    by: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRecord(_Record):
    """Whether a site is connected to its hub, and since when it is or is not, Unix time in s in the hub's clock.

    In the site's account at the hub only, under the name of the site.
    """

    connected: bool = False
    since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseEnd(_Record):
    """The body of the deletion marker of a queue entry, a booking or a lease: why it is gone.

    `boards` is what was granted: only a queue entry or booking that has become a lease has any.
    """

    reason: str = ""
    by: str = ""
    boards: list[str] = field(default_factory=list)
