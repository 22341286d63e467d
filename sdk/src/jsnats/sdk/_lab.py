"""The lab as a client sees it: which exporters there are, and the tree of each as clients.

`connect()` for scripts and the shell, `connect_async()` for asyncio; both give the same things.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, Unpack

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
    ExporterOffline,
    InterfaceRecord,
    LinkRecord,
    LogRecord,
    MethodNotFound,
    OutcomeUnknown,
    StreamSpec,
    TreeRecord,
    check_name,
    ctl_subject,
    interface_key,
    link_key,
    tree_key,
)

from ._bridge import Bridge, shared_bridge
from ._broker_errors import NoResponders
from ._buckets import Record, is_gone, last_record
from ._bulk import Bulk
from ._caller import Caller
from ._claim import Claim, read_claim
from ._connection import Connection, open_connection
from ._context import Context, find_context
from ._events import StoredEvent, events_filter, read_events
from ._iterate import iterate
from ._lease import AsyncLease
from ._lease_sync import Lease
from ._lease_wanted import LeaseOptions, wanted
from ._logs import follow_logs, logs_filter
from ._mirror import mirrored
from ._replay import replay
from ._results import AsyncResults, ResultStream
from ._since import Since
from ._snapshot import ExporterInfo, LeaseInfo, Snapshot, WaitInfo
from ._stored import beginning
from ._sync import drain

if TYPE_CHECKING:
    from jsnats.client import Channel, DriverClient

    from ._blobs import Blobs
    from ._blobs_sync import BlockingBlobs
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
            record = await last_record(self.connection, INTERFACE.name, interface_key(digest))
            if record is None or not record.body:
                raise MethodNotFound(f"the lab does not know interface {digest[:12]}: restart the exporter")
            self._interfaces[digest] = InterfaceRecord.decode(record.body)
        return self._interfaces[digest]

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


class Job:
    """A detached call of ours."""

    def __init__(self, lab: AsyncLab, exporter: str, call: str) -> None:
        self.lab = lab
        self.exporter = exporter
        self.call = call

    async def attach(self) -> AsyncResults:
        """Read its items from the first one kept, then follow. Iterating raises what the call raised."""
        results = AsyncResults()
        results.stream = self._stream(results.sink)
        await results.stream.attach(self.call)
        return results

    def _stream(self, sink: Any) -> ResultStream:
        return ResultStream(self.lab.caller, self.exporter, "", "job", b"", sink)

    def items(self) -> Iterator[Any]:
        """As `attach`, for sync code."""
        bridge = self.lab.bridge
        if bridge is None:
            raise RuntimeError("use `await job.attach()` on an AsyncLab")
        return drain(bridge, self._stream, lambda stream: stream.attach(self.call))

    async def cancel(self) -> str:
        """End it; return the state it was in. Raises OutcomeUnknown if the exporter does not know it."""
        return await self._ask("cancel")

    async def state(self) -> str:
        """`running` or `done`. Raises OutcomeUnknown if the exporter does not know it."""
        return await self._ask("probe")

    async def _ask(self, verb: str) -> str:
        connection = self.lab.connection
        subject = ctl_subject(self.exporter, connection.token, self.call)
        answer = None
        while answer is None:
            await connection.wait_connected()
            try:
                answer = await self.lab.caller.probe(subject, verb)
            except (NoResponders, TimeoutError):
                raise ExporterOffline(f"exporter {self.exporter!r} is offline: see `jsnats ls`") from None
        state = str(answer.get("state", "unknown"))
        if state == "unknown":
            raise OutcomeUnknown(f"exporter {self.exporter!r} does not know that call")
        return state


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
    return Lab(bridge.run(_open(url, context, timeout_s, bridge)), bridge)


@asynccontextmanager
async def connect_async(
    url: str | None = None, *, context: Context | str | os.PathLike[str] | None = None, timeout_s: float = 5.0
) -> AsyncIterator[AsyncLab]:
    """As `connect`, for `async with`."""
    lab = await _open(url, context, timeout_s, None)
    try:
        yield lab
    finally:
        await lab.close()


async def _open(url: str | None, context: Any, timeout_s: float, bridge: Bridge | None) -> AsyncLab:
    chosen = context if isinstance(context, Context) else find_context(url, context)
    connection = await open_connection(chosen, name=f"client {chosen.name}", timeout_s=timeout_s)
    return AsyncLab(connection, bridge)
