"""Who may call: the one place where a lease is compared with a caller."""

from __future__ import annotations

from jsnats.schemas import LAB, LeasePolicy, LeaseRecord, LeaseRequired, lease_key, unescape_user
from jsnats.sdk import Connection, last_record


class Admission:
    """The lease policy of one exporter and the lease record last seen."""

    def __init__(self, exporter: str, policy: LeasePolicy) -> None:
        self.exporter = exporter
        self.policy = policy
        self.lease: LeaseRecord | None = None

    async def refresh(self, connection: Connection) -> None:
        """Read the lease record. Raises BrokerError."""
        record = await last_record(connection, LAB.name, lease_key(self.exporter))
        self.lease = LeaseRecord.decode(record.body) if record and record.body else None

    def check(self, user: str, epoch: str | None) -> None:
        """Let the call pass, or raise LeaseRequired in one line that says who holds it and how to get it."""
        lease = self.lease
        if lease is None:
            if self.policy == "required":
                raise LeaseRequired(
                    f"{self.exporter} answers lease holders only, and nobody holds it: "
                    "take a lease, or have `lease: if-held` in its exporter.yaml"
                )
            return
        if user != lease.holder and user not in lease.co_holders:
            raise LeaseRequired(f"{self.exporter} is held by {unescape_user(lease.holder)}")
        if epoch is not None and epoch != str(lease.epoch):
            raise LeaseRequired(f"the lease of epoch {epoch} on {self.exporter} has ended")
