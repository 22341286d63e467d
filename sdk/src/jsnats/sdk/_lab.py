"""The lab as a client sees it: which exporters there are, and the tree of each as clients.

For asyncio, by `connect_async()`; `_lab_sync.py` gives the same things to scripts and the shell.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

from jsnats.schemas import (
    EVENTS,
    INTERFACE,
    LAB,
    LINK_BUCKET,
    LOGS,
    NAME,
    PRESENCE,
    TREE,
    ConfigurationError,
    InterfaceRecord,
    LinkRecord,
    LogRecord,
    MethodNotFound,
    StreamSpec,
    TreeRecord,
    check_name,
    interface_key,
    link_key,
    tree_key,
)

from ._bridge import Bridge
from ._buckets import Record, is_gone, last_record
from ._bulk import Bulk
from ._caller import Caller
from ._claim import Claim, read_claim
from ._cluster import CATCH_UP_S
from ._connection import Connection, open_connection
from ._context import Context, find_context
from ._events import StoredEvent, events_filter, read_events
from ._job import Job
from ._lasting import RECONNECT_WAIT_S
from ._lease import AsyncLease
from ._lease_wanted import LeaseOptions, wanted
from ._logs import follow_logs, logs_filter
from ._mirror import mirrored
from ._replay import replay
from ._results import AsyncResults, ResultStream
from ._since import Since
from ._snapshot import ExporterInfo, LeaseInfo, Snapshot, WaitInfo
from ._stored import beginning

if TYPE_CHECKING:
    from jsnats.client import Channel, DriverClient

    from ._blobs import Blobs
    from ._duplex import DuplexStream


class AsyncLab:
    """A connection to a lab, for asyncio."""

    def __init__(self, connection: Connection, bridge: Bridge | None = None) -> None:
        self.connection = connection
        self.caller = Caller(connection)
        self.bridge = bridge
        self._interfaces: dict[str, InterfaceRecord] = {}
        self.bulk = Bulk(connection)
        self.claims: dict[str, Claim] = {}

    @property
    def user(self) -> str:
        """Who we are in this lab."""
        return self.connection.context.name

    @cached_property
    def blobs(self) -> Blobs:
        """The files of the lab."""
        from ._blobs import Blobs

        return Blobs(self.connection, self.bulk)

    async def tree(self, exporter: str) -> TreeRecord:
        """What an exporter has published. Raises MethodNotFound, naming those that exist, if there is none."""
        check_name(exporter, "exporter name")  # a space in a subject and the broker closes the connection
        record = await last_record(self.connection, TREE.name, tree_key(exporter))
        if record is None or not record.body:
            names = ", ".join(sorted([info.name for info in await self.exporters()])) or "none"
            raise MethodNotFound(f"no exporter {exporter!r} in this lab; there is: {names}")
        tree = TreeRecord.decode(record.body)
        self.caller.instances[exporter] = tree.instance
        return tree

    async def interface(self, digest: str) -> InterfaceRecord:
        """The interface with that SHA-256; each is read once."""
        if digest not in self._interfaces:
            self._interfaces[digest] = InterfaceRecord.decode(await self._published_interface(digest))
        return self._interfaces[digest]

    async def _published_interface(self, digest: str) -> bytes:
        """It is published before the tree that names it; a server, or a hub, may have the tree and not yet this."""
        now = asyncio.get_running_loop().time
        end = now() + (CATCH_UP_S if self.connection.clustered else 0.0)
        while True:
            record = await last_record(self.connection, INTERFACE.name, interface_key(digest))
            if record and record.body:
                return record.body
            if now() >= end:
                raise MethodNotFound(f"the lab does not know interface {digest[:12]}: restart the exporter")
            await asyncio.sleep(RECONNECT_WAIT_S)

    async def exporters(self) -> list[ExporterInfo]:
        """All exporters the lab knows, by name, present or not."""
        return (await self.snapshot()).exporters()

    async def leases(self) -> list[LeaseInfo]:
        """Leases that are held, and bookings."""
        return (await self.snapshot()).held()

    async def queue(self) -> list[WaitInfo]:
        """All who wait for exporters, in the order in which they are served."""
        return (await self.snapshot()).queue()

    async def snapshot(self) -> Snapshot:
        """Everything the lab's records say of its exporters and leases right now."""
        trees, presence, (lab, now) = await asyncio.gather(self._bodies(TREE), self._bodies(PRESENCE), self._lab())
        found = Snapshot.of(trees, presence, lab, now)
        return await self._behind_link(found) if self.connection.context.site else found

    async def _behind_link(self, found: Snapshot) -> Snapshot:
        """As it is known at the hub: while the site is not connected, nothing is there."""
        site = self.connection.context.site
        record = await last_record(self.connection, LINK_BUCKET, link_key(site))
        link = LinkRecord.decode(record.body) if record and record.body else LinkRecord()
        return found if link.connected else found.cut_off(f"the site {site} is not connected", link.since)

    async def _bodies(self, bucket: StreamSpec) -> dict[str, bytes]:
        prefix = len(bucket.subjects) - 1
        found = replay(self.connection, bucket.name, bucket.subjects, last_per_subject=True)
        return {
            message.subject[prefix:]: message.data
            async for _, message in found
            if message.data and not is_gone(message.headers)
        }

    async def _lab(self) -> tuple[dict[str, Record], float]:
        """Its records, and Unix time in s of the broker's clock."""
        prefix = len(LAB.subjects) - 1
        async with mirrored(self.connection, LAB.name, LAB.subjects) as mirror:
            return {key[prefix:]: record for key, record in mirror.records.items()}, mirror.now()

    def lease(
        self, *selectors: str, on_wait: Callable[[WaitInfo], None] | None = None, **options: Unpack[LeaseOptions]
    ) -> AsyncLease:
        """A lease of one exporter for each selector, to be used as `async with`; see `LeaseOptions`.

            async with lab.lease("board=rpi4,site!=paris", duration="30m") as bench:
                await bench.dut.power.call_async("on")

        `on_wait` is told the place in the queue whenever it changes.
        """
        return AsyncLease(self, wanted(selectors, **options), on_wait)

    async def claim(self, exporter: str) -> Claim:
        """Our right to an exporter: under a lease of this connection, else what the lab's records say."""
        return self.claims.get(exporter) or await read_claim(self.connection, exporter)

    async def exporter(self, name: str) -> DriverClient:
        """The root of an exporter's tree of clients, whose calls are made under our lease if we have one."""
        from jsnats.client import client_tree

        return client_tree(*await self.open(name))

    async def open(self, name: str) -> tuple[TreeRecord, Channel]:
        """What an exporter has published, and what its clients call through. Raises as `tree` and `claim`."""
        from jsnats.client import Channel

        check_name(name, "exporter name")
        tree, claim = await asyncio.gather(self.tree(name), self.claim(name))
        return tree, Channel(self, name, claim)

    async def stream(self, exporter: str, path: str, method: str, body: bytes, **options: Any) -> AsyncResults:
        """Open a stream of results; the body is that of the call."""
        results = AsyncResults()
        results.stream = ResultStream(self.caller, exporter, path, method, body, results.sink, **options)
        await results.stream.start()
        return results

    async def open_stream(self, exporter: str, path: str, method: str, body: bytes, **options: Any) -> DuplexStream:
        """Open a two-way byte stream; the body is that of the call."""
        from ._duplex import Session  # anyio is not for every command

        session = Session(self.caller, await self.bulk.connection(), exporter, path, method, body, **options)
        return await session.start()

    async def events(
        self,
        *,
        exporter: str = "",
        type: str = "",  # noqa: A002 - the word that CloudEvents has for it
        since: Since = None,
        follow: bool = False,
    ) -> AsyncGenerator[StoredEvent, None]:
        """Yield events, each once, in the order in which the lab has stored them.

        Of one `exporter` or of all, of a `type` such as `lease.granted` or `lease.*`, from `since` on. With `follow`
        also what comes, for ever, through outages of the broker; then without `since` only that, from the moment the
        first one is asked for. Raises ConfigurationError, AccessDenied, ApiError.
        """
        subject = events_filter(exporter, type)
        begin = await beginning(self.connection, EVENTS.name, subject, since, following=follow)
        async with aclosing(read_events(self.connection, subject, begin, following=follow)) as found:
            async for event in found:
                yield event

    async def logs(
        self, exporter: str, *, path: str = "", since: Since = None, follow: bool = False
    ) -> AsyncGenerator[LogRecord, None]:
        """Yield what the drivers at `path` and below, and the hooks, have logged; the rest as in `events`."""
        begin = await beginning(self.connection, LOGS.name, logs_filter(exporter), since, following=follow)
        async with aclosing(follow_logs(self.connection, exporter, path, begin, following=follow)) as found:
            async for record in found:
                yield record

    def job(self, job_id: str) -> Job:
        """A call that runs, or ran, without its caller, by the id that `detach` gave."""
        exporter, _, call = job_id.partition(".")
        if not NAME.fullmatch(exporter) or len(call) != 32 or not NAME.fullmatch(call):
            raise ConfigurationError(
                f"{job_id!r} is no job id: it is <exporter>.<32 hex digits>, as `jsnats call --detach` prints"
            )
        return Job(self, exporter, call)

    async def close(self) -> None:
        """Close the connection; calls that are open fail."""
        await self.caller.close()
        await self.bulk.close()
        await self.connection.close()


@asynccontextmanager
async def connect_async(
    url: str | None = None, *, context: Context | str | os.PathLike[str] | None = None, timeout_s: float = 5.0
) -> AsyncIterator[AsyncLab]:
    """As `connect`, for `async with`."""
    lab = await open_lab(url, context, timeout_s, None)
    try:
        yield lab
    finally:
        await lab.close()


async def open_lab(url: str | None, context: Any, timeout_s: float, bridge: Bridge | None) -> AsyncLab:
    """Connect, as `connect` says; sync code reaches it over the bridge."""
    chosen = context if isinstance(context, Context) else find_context(url, context)
    connection = await open_connection(chosen, name=f"client {chosen.name}", timeout_s=timeout_s)
    return AsyncLab(connection, bridge)
