"""The lease that the beginning of an id means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jsnats.schemas import ConfigurationError, LeaseNotFound

if TYPE_CHECKING:
    from jsnats.sdk import LeaseInfo, Snapshot, WaitInfo


def find_lease(lab: Snapshot, start: str) -> LeaseInfo | WaitInfo:
    """A lease, booking or wait. Raises LeaseNotFound, ConfigurationError if several begin so."""
    known: list[LeaseInfo | WaitInfo] = [*lab.held(), *lab.queue()]
    found = {each.id: each for each in known if each.id.startswith(start.lower()) and start}
    if len(found) > 1:
        raise ConfigurationError(f"several leases begin with {start!r}: {', '.join(sorted(found))}")
    if not found:
        raise LeaseNotFound(f"there is no lease {start!r}: see `jsnats lease ls` and `jsnats queue`")
    return next(iter(found.values()))
