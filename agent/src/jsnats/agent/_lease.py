"""Who may call: the one place where a lease is compared with a caller.

`check` stands in the way of every call, so it is a few look-ups; the words of a refusal are found only when needed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from jsnats.schemas import LeasePolicy, LeaseRecord, LeaseRequired, headers as h, unescape_user

from ._checks import number

_NOBODY: Final[frozenset[str]] = frozenset()


class Behind(Exception):
    """The caller names a lease newer than any that was heard of here: read the record again, then check again."""


class Admission:
    """Whom one exporter lets in. `now` is the broker's clock; `seen` the newest revision of the lease record here.

    Its keeper says which of three it is: `free`, held (`hold`), or closed to all but the exporter itself (`shut`).
    """

    def __init__(self, exporter: str, policy: LeasePolicy, now: Callable[[], float]) -> None:
        self.exporter = exporter
        self.policy = policy
        self.seen = 0
        self._now = now
        self._lease: LeaseRecord | None = None
        self._admitted: frozenset[str] | None = _NOBODY  # None: everybody
        self._epoch = ""
        self._closed = f"{exporter} is starting: try again in a moment"

    def free(self) -> None:
        """Nobody holds it."""
        self._lease, self._epoch, self._closed = None, "", ""
        self._admitted = None if self.policy == "if-held" else _NOBODY

    def hold(self, lease: LeaseRecord) -> None:
        """Somebody holds it."""
        self._lease, self._epoch, self._closed = lease, str(lease.epoch), ""
        self._admitted = frozenset({lease.holder, *lease.co_holders})

    def shut(self, why: str) -> None:
        """Let nobody in, and say why."""
        self._admitted, self._closed = _NOBODY, why

    def check(self, user: str, epoch: str | None, *, last: bool = False) -> None:
        """Let the call pass, or raise LeaseRequired in one line that says who holds it and how to get it.

        The hooks of an exporter call as the exporter, which is always let in. Raises Behind, unless this is the
        `last` time of asking.
        """
        admitted = self._admitted
        if (admitted is None or user in admitted) and (epoch is None or epoch == self._epoch):
            return
        if user == self.exporter:
            return
        if epoch is not None and number(epoch, h.EPOCH) > self.seen and not last:
            raise Behind
        raise LeaseRequired(self._refusal(user, epoch))

    def _refusal(self, user: str, epoch: str | None) -> str:
        lease, name = self._lease, self.exporter
        if self._closed:
            return self._closed
        if lease and not lease.admits(user):
            return (
                f"{name} is held by {unescape_user(lease.holder)} {self._until(lease)}: {_how(name, 'queues for it')}"
            )
        if epoch is not None and epoch != self._epoch:
            return f"the lease of epoch {epoch} on {name} has ended: {_how(name, 'takes a new one')}"
        return (
            f"{name} answers lease holders only, and nobody holds it: {_how(name, 'takes it')}, "
            f"`jsnats shell -l name={name}` opens a shell with it"
        )

    def _until(self, lease: LeaseRecord) -> str:
        if not lease.end:
            return "without an end"
        left = max(0, round((lease.end - self._now()) / 60))
        return f"until {datetime.fromtimestamp(lease.end, UTC):%H:%M:%S} UTC, {left} min from now"


def _how(exporter: str, what: str) -> str:
    return f"`jsnats lease create -l name={exporter}` {what}"
