"""The lab for scripts and the shell: as `AsyncLab`, without asyncio."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, Unpack

from jsnats.schemas import EVENTS, LOGS, InterfaceRecord, LogRecord, TreeRecord

from ._bridge import Bridge, shared_bridge
from ._context import Context
from ._events import StoredEvent, events_filter, read_events
from ._iterate import iterate
from ._job import Job
from ._lab import AsyncLab, open_lab
from ._lease_sync import Lease
from ._lease_wanted import LeaseOptions
from ._logs import follow_logs, logs_filter
from ._since import Since
from ._snapshot import ExporterInfo, LeaseInfo, WaitInfo
from ._stored import beginning

if TYPE_CHECKING:
    from jsnats.client import Channel, DriverClient

    from ._blobs_sync import BlockingBlobs


class Lab:
    """A connection to a lab, for sync code. Also a context manager."""

    def __init__(self, inner: AsyncLab, bridge: Bridge) -> None:
        self.inner = inner
        self._bridge = bridge

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def user(self) -> str:
        """Who we are in this lab."""
        return self.inner.user

    @cached_property
    def blobs(self) -> BlockingBlobs:
        """The files of the lab."""
        from ._blobs_sync import BlockingBlobs

        return BlockingBlobs(self.inner.blobs, self._bridge)

    def exporters(self) -> list[ExporterInfo]:
        """All exporters the lab knows, by name, present or not."""
        return self._bridge.run(self.inner.exporters())

    def leases(self) -> list[LeaseInfo]:
        """Leases that are held, and bookings."""
        return self._bridge.run(self.inner.leases())

    def queue(self) -> list[WaitInfo]:
        """All who wait for exporters, in the order in which they are served."""
        return self._bridge.run(self.inner.queue())

    def lease(
        self, *selectors: str, on_wait: Callable[[WaitInfo], None] | None = None, **options: Unpack[LeaseOptions]
    ) -> Lease:
        """A lease of one exporter for each selector, to be used as `with`; see `LeaseOptions`.

            with lab.lease("board=rpi4,site!=paris", duration="30m") as bench:
                bench.dut.power.on()

        `on_wait` is told the place in the queue whenever it changes, from another thread.
        """
        return self._bridge.run(self._lease(selectors, on_wait, options))

    async def _lease(self, selectors: Any, on_wait: Any, options: Any) -> Lease:
        return Lease(self.inner.lease(*selectors, on_wait=on_wait, **options), self._bridge)

    def exporter(self, name: str) -> DriverClient:
        """The root of an exporter's tree: `lab.exporter("bench-1").dut.power.on()`."""
        return self._bridge.run(self.inner.exporter(name))

    def open(self, name: str) -> tuple[TreeRecord, Channel]:
        """What an exporter has published, and what its clients call through."""
        return self._bridge.run(self.inner.open(name))

    def tree(self, exporter: str) -> TreeRecord:
        """What an exporter has published."""
        return self._bridge.run(self.inner.tree(exporter))

    def interface(self, digest: str) -> InterfaceRecord:
        """The interface with that SHA-256."""
        return self._bridge.run(self.inner.interface(digest))

    def events(
        self,
        *,
        exporter: str = "",
        type: str = "",  # noqa: A002 - the word that CloudEvents has for it
        since: Since = None,
        follow: bool = False,
    ) -> Generator[StoredEvent, None, None]:
        """As `AsyncLab.events`; what comes is what comes after this call: `for event in lab.events(follow=True)`."""
        subject, connection = events_filter(exporter, type), self.inner.connection
        begin = self._bridge.run(beginning(connection, EVENTS.name, subject, since, following=follow))
        return iterate(self._bridge, read_events(connection, subject, begin, following=follow))

    def logs(
        self, exporter: str, *, path: str = "", since: Since = None, follow: bool = False
    ) -> Generator[LogRecord, None, None]:
        """As `AsyncLab.logs`; what comes is what comes after this call."""
        subject, connection = logs_filter(exporter), self.inner.connection
        begin = self._bridge.run(beginning(connection, LOGS.name, subject, since, following=follow))
        return iterate(self._bridge, follow_logs(connection, exporter, path, begin, following=follow))

    def job(self, job_id: str) -> Job:
        """A call that runs, or ran, without its caller; read it with `.items()`."""
        return self.inner.job(job_id)

    def close(self) -> None:
        """Close the connection."""
        self._bridge.run(self.inner.close())


def connect(
    url: str | None = None, *, context: Context | str | os.PathLike[str] | None = None, timeout_s: float = 5.0
) -> Lab:
    """Connect to a lab. Without arguments: JSNATS_CONTEXT, JSNATS_URL, the context of a running `jsnats up`.

    Raises BrokerUnreachable, AccessDenied, ConfigurationError.
    """
    bridge = shared_bridge()
    return Lab(bridge.run(open_lab(url, context, timeout_s, bridge)), bridge)
