"""One exporter: a tree of drivers, its name on the broker, its subscriptions, from start to stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass, field
from importlib.metadata import version

from jsnats.driver import Driver, build_tree, node_records
from jsnats.schemas import (
    BrokerError,
    ConfigurationError,
    LeasePolicy,
    TreeRecord,
    calls_of,
    ctls_of,
    interface_key,
    tree_key,
)
from jsnats.sdk import Conflict, Context, Subscription, open_connection, put_record

from ._control import Control
from ._dispatch import Dispatcher
from ._lease import Admission
from ._presence import Presence
from ._service import Service

log = logging.getLogger("jsnats.agent")

CLOSE_S = 10.0
"""How long teardown waits for a driver's thread before it goes on without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is exported and under which name. `auth` says whether the broker pins user names to credentials."""

    name: str
    root: Driver
    labels: dict[str, str] = field(default_factory=dict)
    lease: LeasePolicy = "if-held"
    auth: bool = True


class Exporter:
    """Serves one tree. `async with` starts and stops it; `lost` is set when another agent took the name over."""

    def __init__(self, spec: Spec, context: Context) -> None:
        self.spec = spec
        self.context = context
        self.instance = secrets.token_hex(8)
        self.lost = asyncio.Event()
        self.nodes = build_tree(spec.root)
        self.stuck: list[str] = []
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Exporter:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect, take the name, start the drivers, publish the tree, subscribe.

        Raises BrokerError, NameTaken, and ConfigurationError with a line for each driver that did not start.
        """
        name = self.spec.name
        self.connection = await open_connection(self.context, name=f"exporter {name}")
        try:
            self.presence = Presence(self.connection, name, self.instance, self._on_lost)
            await self.presence.claim()
        except BaseException:
            await self.connection.close()
            raise
        self.admission = Admission(name, self.spec.lease)
        self.service = Service(self.connection, name, self.instance, version("jsnats"), self.nodes.values())
        self.dispatcher = Dispatcher(
            self.connection, name, self.instance, self.nodes, self.admission, self.service, auth=self.spec.auth
        )
        try:
            await self._begin()
        except BaseException:
            await self.stop()
            raise

    async def _begin(self) -> None:
        await self._each("start", self._drivers("start"))
        await self._each("reset", self._lifecycle("reset"))
        await self.admission.refresh(self.connection)
        await self._publish()
        await self._subscribe()
        self.connection.on_reconnect.append(self._on_reconnect)
        self._tasks.append(asyncio.ensure_future(self.dispatcher.look_after()))
        log.info("exporter %s: %d drivers, instance %s", self.spec.name, len(self.nodes), self.instance)

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

    async def _subscribe(self) -> None:
        control = Control(self.dispatcher)
        for subject, callback in (
            (calls_of(self.spec.name), self.dispatcher.on_call),
            (ctls_of(self.spec.name), control.on_ctl),
        ):
            self._subscriptions.append(await self.connection.subscribe(subject, callback))
        await self.service.open()
        await self.connection.flush()

    async def _on_reconnect(self) -> None:
        try:
            await self.presence.refresh()
            await self.admission.refresh(self.connection)
        except (BrokerError, TimeoutError) as error:
            log.warning("exporter %s: after the reconnect: %s", self.spec.name, error)

    def _on_lost(self) -> None:
        """Two agents of one name would run a power cycle twice: stop answering at once."""
        self.connection.spawn(self._unsubscribe())
        self.lost.set()

    async def _unsubscribe(self) -> None:
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()
        await self.service.close()

    # ------------------------------------------------------------------ drivers

    def _drivers(self, name: str) -> dict[str, Awaitable[None]]:
        return {node.path: getattr(node.driver, name)() for node in self._own_nodes()}

    def _lifecycle(self, name: str) -> dict[str, Awaitable[None]]:
        runners = self.dispatcher.executor.runners
        return {node.path: runners[node.driver].lifecycle(name, CLOSE_S) for node in self._own_nodes()}

    def _own_nodes(self) -> list:  # type: ignore[type-arg]
        """Each driver once, under the path it has first."""
        return list({node.driver: node for node in reversed(self.nodes.values())}.values())

    async def _each(self, what: str, work: dict[str, Awaitable[None]]) -> None:
        """Do it for all drivers in parallel; report all failures by path."""
        results = await asyncio.gather(*work.values(), return_exceptions=True)
        faults = [
            f"{path or 'root'}: {what} failed: {type(error).__name__}: {error}"
            for path, error in zip(work, results, strict=True)
            if isinstance(error, BaseException)
        ]
        if faults:
            raise ConfigurationError(f"exporter {self.spec.name}: " + "; ".join(faults), faults)

    # ------------------------------------------------------------------ stopping

    async def stop(self) -> None:
        """End every call, close and stop the drivers, give the name back. Never raises for a driver's fault."""
        await self._unsubscribe()
        for task in self._tasks:
            task.cancel()
        await self.dispatcher.cancel_all("the exporter is stopping", CLOSE_S)
        self.stuck = [
            f"{n.path}.{r.stuck}"
            for n in self.nodes.values()
            if (r := self.dispatcher.executor.runners[n.driver]).stuck
        ]
        for what, work in (("close", self._lifecycle("close")), ("stop", self._drivers("stop"))):
            try:
                await self._each(what, work)
            except ConfigurationError as error:
                log.error("%s", error)
        for runner in self.dispatcher.executor.runners.values():
            runner.stop()
        if not self.lost.is_set():
            await self.presence.release()
        await self.connection.close()
