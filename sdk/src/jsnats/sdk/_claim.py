"""What a client believes of its right to an exporter: the epoch that it sends, and whether the lease is lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from jsnats.schemas import LAB, LeaseEnd, LeaseLost, LeaseRecord, ProtocolError, lease_key, unescape_user

from ._buckets import Record, last_record
from ._connection import Connection

LEASE, BOARDS = "JSNATS_LEASE", "JSNATS_BOARDS"
"""Set by `jsnats shell` and `run`: the id of their lease, and its exporters with commas between."""

BEHIND_S = 1.0
"""How far the server that answers a direct get may be behind, in a cluster."""


class Claim:
    """The right of a client to one exporter. `epoch` 0: it knows of no lease, and sends none.

    `lost`, once set, is why the lease has ended; calls are refused here then. A lease that this connection holds has
    `refused`, which is told when the exporter refuses a call for want of it.
    """

    def __init__(self, exporter: str, epoch: int = 0, refused: Callable[[str], None] | None = None) -> None:
        self.exporter = exporter
        self.epoch = epoch
        self.refused = refused
        self.lost = ""

    def error(self, path: str = "", method: str = "") -> LeaseLost:
        """That it is lost, said of one call."""
        return LeaseLost(self.lost, path=path, method=method)


async def read_claim(connection: Connection, exporter: str) -> Claim:
    """What the lab's records say of our right to an exporter. Raises BrokerError.

    LeaseLost if the lease of `jsnats shell` or `run`, in which this process was started, does not hold any more.
    """
    record = await last_record(connection, LAB.name, lease_key(exporter))
    if connection.clustered and _is_lost(exporter, record):
        await asyncio.sleep(BEHIND_S)
        record = await last_record(connection, LAB.name, lease_key(exporter))
    lease = lease_of(record)
    _check_shell(exporter, record)
    mine = lease is not None and lease.admits(connection.token)
    return Claim(exporter, lease.epoch if lease and mine else 0)


def lease_of(record: Record | None) -> LeaseRecord | None:
    """The lease that a stored record is, None if nobody holds the exporter."""
    return LeaseRecord.decode(record.body).at(record.revision) if record and record.body else None


def _is_lost(exporter: str, record: Record | None) -> bool:
    """Whether the lease of this shell is on that exporter, and not on record."""
    own = os.environ.get(LEASE)
    if not own or exporter not in os.environ.get(BOARDS, "").split(","):
        return False
    lease = lease_of(record)
    return lease is None or lease.id != own


def _check_shell(exporter: str, record: Record | None) -> None:
    if _is_lost(exporter, record):
        raise LeaseLost(f"the lease of this shell has ended: {why_gone(exporter, record)}")


def why_gone(exporter: str, record: Record | None) -> str:
    """Why a lease is not there any more, by what stands in its place."""
    lease = lease_of(record)
    if lease:
        return f"{exporter} is held by {unescape_user(lease.holder)}"
    return end_text(end_of(record)) or "it is not there any more"


def end_of(record: Record | None) -> LeaseEnd:
    """What a deletion marker says."""
    try:
        return LeaseEnd.decode(record.end) if record and record.end else LeaseEnd()
    except ProtocolError:
        return LeaseEnd()


def end_text(end: LeaseEnd) -> str:
    """`released by ann`, `the rack is moved (by root)`."""
    if not end.by or unescape_user(end.by) in end.reason:
        return end.reason
    return said_by(end.reason, unescape_user(end.by))


def said_by(reason: str, user: str) -> str:
    """A reason and who gave it."""
    return f"{reason or 'ended'} by {user}" if reason in ("", "released") else f"{reason} (by {user})"
