"""The records of a granted lease, watched: whether its exporters are ready, and whether it still is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Self

from jsnats.schemas import LAB, PRESENCE, LeaseRecord, PresenceRecord, lease_key, presence_key, unescape_user

from ._buckets import Record
from ._claim import lease_of, why_gone
from ._connection import Connection
from ._mirror import Mirror, mirrored

LATE_S = 2.0
"""A lease that nobody has ended so long after its end is over all the same: we may be cut off."""

_OVER = ("ending", "stuck")


class Hold:
    """Mirrors of the lease `lease` on `boards`, for as long as the `async with`. What was stored before revision
    `granted` says nothing of it: in a cluster the server that is read from may be behind.

    `ready` is set when every exporter says that it is prepared. `on_change` is called at each change, and `on_over`,
    with why, when the lease has ended, or is not ours any more.
    """

    def __init__(
        self,
        connection: Connection,
        lease: str,
        boards: Sequence[str],
        granted: int,
        on_change: Callable[[], None],
        on_over: Callable[[str], None],
    ) -> None:
        self.records: dict[str, LeaseRecord] = {}
        self.ready = asyncio.Event()
        self._connection = connection
        self._lease = lease
        self._boards = boards
        self._granted = granted
        self._on_change = on_change
        self._on_over = on_over
        self._stack = AsyncExitStack()
        self._leases: dict[str, Mirror] = {}
        self._presence: dict[str, Mirror] = {}
        self._alarm: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(self._watch(board) for board in self._boards))
        except BaseException:
            await self.__aexit__()
            raise
        self._judge()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._alarm:
            self._alarm.cancel()
        await self._stack.aclose()

    async def _watch(self, board: str) -> None:
        async def mirror(bucket: str, key: str) -> Mirror:
            return await self._stack.enter_async_context(mirrored(self._connection, bucket, key, self._judge))

        self._leases[board], self._presence[board] = await asyncio.gather(
            mirror(LAB.name, lease_key(board)), mirror(PRESENCE.name, presence_key(board))
        )

    def now(self) -> float:
        """Unix time in s of the broker's clock."""
        return next(iter(self._leases.values())).now()

    @property
    def record(self) -> LeaseRecord | None:
        """That of the first exporter. Those of the others differ in their epoch, if that is the revision of each."""
        return self.records.get(self._boards[0])

    def _here(self, board: str) -> PresenceRecord | None:
        record = self._presence[board].get(presence_key(board))
        return PresenceRecord.decode(record.body) if record else None

    def _judge(self, *_: object) -> None:
        if len(self._leases) < len(self._boards):
            return  # still reading
        reasons = [why for board in self._boards if (why := self._why_over(board))]
        if reasons:
            self._on_over(reasons[0])
            return
        if all(self._is_ready(board) for board in self._boards):
            self.ready.set()
        self._set_alarm()
        self._on_change()

    def _why_over(self, board: str) -> str:
        """Why the lease is not ours any more as far as that exporter goes, "" if it is."""
        record = self._leases[board].records.get(lease_key(board))
        lease = lease_of(record)
        if lease is None or lease.id != self._lease:
            return why_gone(board, record) if self._is_news(board, record) else ""
        self.records[board] = lease
        if not lease.admits(self._connection.token):
            return f"it was transferred to {unescape_user(lease.holder)}"
        here = self._here(board)
        if here and (here.ended == lease.epoch or (here.epoch == lease.epoch and here.state in _OVER)):
            return here.reason or f"{board} has ended it"
        return ""

    def _is_news(self, board: str, record: Record | None) -> bool:
        return board in self.records or (record is not None and record.revision > self._granted)

    def _is_ready(self, board: str) -> bool:
        here, lease = self._here(board), self.records.get(board)
        return bool(lease and here and here.state == "leased" and here.epoch == lease.epoch)

    def _set_alarm(self) -> None:
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        if self.record and self.record.end:
            left = self.record.end + LATE_S - self.now()
            self._alarm = asyncio.get_running_loop().call_later(left, self._on_over, "its time was up")
