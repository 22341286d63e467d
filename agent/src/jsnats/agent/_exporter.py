"""One exporter: a tree of drivers, its name on the broker, its subscriptions, from start to stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from socket import gethostname
from typing import Any

from jsnats.driver import Driver, build_tree, marker_sink, node_records
from jsnats.schemas import (
    LAB,
    BrokerError,
    JsnatsError,
    LeasePolicy,
    TreeRecord,
    calls_of,
    ctls_of,
    interface_key,
    lease_key,
    tree_key,
)
from jsnats.sdk import Bulk, Conflict, Connection, Context, Subscription, mirrored, open_connection, put_record

from ._audit import Audit
from ._board import Board
from ._control import Control
from ._dispatch import Dispatcher
from ._events import events_of, tell
from ._hooks import Hook, HookName, Hooks
from ._keeper import Keeper
from ._lease import Admission
from ._lifecycle import CLOSE_S, Drivers
from ._logs import LogPublisher
from ._presence import NameTaken, Presence
from ._recorder import Recorders
from ._resources import AgentResources, FileSettings
from ._service import Service

log = logging.getLogger("jsnats.agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is exported and under which name. `auth` says whether the broker pins user names to credentials."""

    name: str
    root: Driver
    labels: dict[str, str] = field(default_factory=dict)
    lease: LeasePolicy = "if-held"
    auth: bool = True
    files: FileSettings = field(default_factory=FileSettings)
    hooks: Mapping[HookName, Hook] = field(default_factory=dict)


class Exporter:
    """Serves one tree. `async with` starts and stops it; `lost` is set when it cannot go on, `error` says why: another
    agent took the name over, a hook ended it.

    Raises ConfigurationError for a tree that cannot be.
    """

    def __init__(self, spec: Spec, context: Context) -> None:
        self.spec = spec
        self.context = context
        self.instance = secrets.token_hex(8)
        self.lost = asyncio.Event()
        self.error: JsnatsError = NameTaken(f"exporter {spec.name!r} was taken over by another agent")
        self.nodes = build_tree(spec.root)
        self.drivers = Drivers(spec.name, spec.root, self.nodes)
        self.connection: Connection
        self.dispatcher: Dispatcher
        self.keeper: Keeper
        self._presence: Presence
        self._bulk: Bulk
        self._recorders: Recorders
        self._outbox = events_of(spec.name)
        self._audit = Audit(self.events)
        for driver in self.drivers.own:
            vars(driver)["_events"] = self._outbox.put
        self._subscriptions: list[Subscription] = []
        self._undo = AsyncExitStack()

    async def __aenter__(self) -> Exporter:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def events(self, type_: str, data: dict[str, Any], path: str = "") -> None:
        """Tell the lab that something happened here, to the driver at `path` if to one; from any thread, at any time.

        Never waits and never raises. What is told before `start` is stored when that has the name, what is told
        after `stop` is not.
        """
        if type_ == "lease.torn-down":
            self._audit.flush()  # what was done under a lease is told before its end
        tell(self._outbox, self.spec.name, type_, data, path)

    async def start(self) -> None:
        """Connect, take the name, start the drivers, publish the tree, subscribe.

        Raises BrokerError, NameTaken, and ConfigurationError with a line for each driver that did not start. It may
        be tried again; `stop` ends the drivers for good.
        """
        try:
            await self._begin()
        except BaseException:
            await self._undo.aclose()
            raise
        log.info("exporter %s: %d drivers, instance %s", self.spec.name, len(self.nodes) - 1, self.instance)

    async def _begin(self) -> None:
        name = self.spec.name
        self.connection = await open_connection(self.context, name=f"exporter {name}")
        self._undo.push_async_callback(self.connection.close)
        self._bulk = Bulk(self.connection)
        self._undo.push_async_callback(self._bulk.close)
        self._recorders = Recorders(self.connection, name, self.drivers.own, self.events)
        self._presence = Presence(self.connection, name, self.instance, self._on_lost, self._emit_online)
        await self._presence.claim()
        self._undo.push_async_callback(self._release)
        self._undo.push_async_callback(self._outbox.close)
        self._outbox.open(self.connection)
        logs = LogPublisher(self.connection, name, self.nodes)
        self._undo.push_async_callback(logs.close)
        logs.open()
        await self._recorders.begin()
        self._undo.push_async_callback(self._recorders.end)
        AgentResources(self.connection, self._bulk, self.spec.files).give(self.drivers.own)
        marker_sink.set(self._recorders.mark)  # for what the drivers do on their own
        self._undo.push_async_callback(self.drivers.end)
        await self.drivers.begin()
        await self._publish()
        self._prepare()
        mirror = mirrored(self.connection, LAB.name, lease_key(name), self.keeper.on_record)
        self.keeper.begin(await self._undo.enter_async_context(mirror))
        await self._serve()
        self._emit_online()
        self._undo.callback(self._emit_offline)
        keeping = asyncio.create_task(self.keeper.run(), name=f"lease of {name}")
        keeping.add_done_callback(self._on_kept)
        self._undo.push_async_callback(_end, keeping)

    async def _publish(self) -> None:
        nodes, interfaces = node_records(self.nodes)
        for digest, interface in interfaces.items():
            try:
                await put_record(self.connection, interface_key(digest), interface.encode(), expect=0)
            except Conflict:
                continue  # the same bytes are there already: the key is their hash
        spec = self.spec
        tree = TreeRecord(
            name=spec.name,
            instance=self.instance,
            nodes=nodes,
            labels=spec.labels,
            lease=spec.lease,
            version=version("jsnats"),
        )
        await put_record(self.connection, tree_key(spec.name), tree.encode())

    def _prepare(self) -> None:
        """Make what a call meets on its way, as far as it needs no broker."""
        name, spec = self.spec.name, self.spec
        self._service = Service(self.connection, name, self.instance, version("jsnats"), self.nodes.values())
        admission = Admission(name, spec.lease, lambda: self.keeper.now())
        self.dispatcher = Dispatcher(
            self.connection,
            self._bulk,
            name,
            self.instance,
            self.nodes,
            admission,
            self._service,
            self._audit,
            auth=spec.auth,
        )
        self.dispatcher.executor.mark = self._recorders.mark
        board = Board(name, self.dispatcher, self.drivers, Hooks(name, spec.hooks, self.context, self.events))
        self.keeper = Keeper(name, admission, self._presence, self.connection, board, self.events, self._fail)
        self.dispatcher.look_up = self.keeper.look_up

    async def _serve(self) -> None:
        name = self.spec.name
        self._undo.callback(self._audit.flush)
        self._undo.push_async_callback(self.dispatcher.cancel_all, "the exporter is stopping", CLOSE_S)
        self._undo.push_async_callback(self._unsubscribe)
        control = Control(self.dispatcher)
        for subject, listener in ((calls_of(name), self.dispatcher.on_call), (ctls_of(name), control.on_ctl)):
            self._subscriptions.append(await self.connection.listen(subject, listener))
        for subject, callback in self._service.answering():
            self._subscriptions.append(await self.connection.subscribe(subject, callback))
        await self.connection.flush()
        self.connection.on_reconnect.append(self._on_reconnect)
        self._undo.callback(asyncio.ensure_future(self.dispatcher.look_after()).cancel)

    async def _on_reconnect(self) -> None:
        try:
            await self._presence.refresh()
        except (BrokerError, TimeoutError) as error:
            log.warning("exporter %s: after the reconnect: %s", self.spec.name, error)

    def _on_lost(self) -> None:
        """Two agents of one name would run a power cycle twice: end everything and stop answering at once."""
        if self._subscriptions:
            self.connection.spawn(self.dispatcher.cancel_all("another agent has taken over the name", CLOSE_S))
        self.connection.spawn(self._unsubscribe())
        self.connection.spawn(self._recorders.abandon())
        self.lost.set()

    def _fail(self, error: JsnatsError) -> None:
        self.error = error
        self.lost.set()

    def _on_kept(self, keeping: asyncio.Task[None]) -> None:
        if not keeping.cancelled() and (error := keeping.exception()):
            log.error("exporter %s: keeping its lease failed", self.spec.name, exc_info=error)
            self._fail(JsnatsError(f"exporter {self.spec.name}: keeping its lease failed: {error}"))

    def _emit_online(self) -> None:
        self.events("exporter.online", {"instance": self.instance, "host": gethostname(), "version": version("jsnats")})

    def _emit_offline(self) -> None:
        if not self.lost.is_set() or not isinstance(self.error, NameTaken):  # else another agent has it
            reason = str(self.error) if self.lost.is_set() else "its agent was stopped"
            self.events("exporter.offline", {"reason": reason, "instance": self.instance})

    async def _unsubscribe(self) -> None:
        while self._subscriptions:
            await self._subscriptions.pop().close()

    async def _release(self) -> None:
        if not self.lost.is_set():
            await self._presence.release()

    async def stop(self) -> None:
        """End every call, close and stop the drivers, give the name back. Never raises for a driver's fault."""
        await self._undo.aclose()
        await self.drivers.end()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
