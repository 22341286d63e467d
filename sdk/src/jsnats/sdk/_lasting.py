"""What keeps a connection to the broker alive, whatever happens to the broker, the network or our credential.

What it adds to nats-py: a bounded first attempt that says why it failed; a denied request fails at once with
AccessDenied instead of a timeout; a client that closed for good is replaced by a new one, with its subscriptions. In a
cluster also: a server that is silent, or does not see the others any more, is left for another within seconds.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Self

import nats.errors

from jsnats.schemas import AccessDenied, BrokerError, BrokerUnreachable, reply_prefix

from ._broker_errors import Disconnected, denied, is_refusal
from ._cluster import CLUSTER_PINGS, PINGS, Together
from ._context import Context
from ._nats import CLOSE_S, HeaderClient
from ._replies import Replies

log = logging.getLogger("jsnats.connection")

Subscribe = Callable[[HeaderClient], Awaitable[Any]]

RECONNECT_WAIT_S = 0.2
OUTAGE_S = 60.0
"""How long open calls and reads wait for the broker to come back."""


class Subscription:
    """A subscription that outlives the client it was made with."""

    def __init__(self, connection: LastingConnection, subject: str, subscribe: Subscribe) -> None:
        self._connection = connection
        self.subject = subject
        self._subscribe = subscribe
        self.inner: Any = None

    async def attach(self, client: HeaderClient) -> None:
        """Subscribe on `client`, without nats-py's limits: flow is controlled by credit, not by dropping."""
        self.inner = await self._subscribe(client)

    async def close(self) -> None:
        """Unsubscribe; nothing more is delivered."""
        self._connection.forget(self)
        try:
            if self.inner:
                await self.inner.unsubscribe()
        except nats.errors.Error:
            log.debug("unsubscribe of %s: already gone", self.subject)


class LastingConnection:
    """A connection of one principal that is there again after each outage, without what is said over it."""

    def __init__(self, context: Context, name: str) -> None:
        self.context = context
        self.name = name
        self.token = context.token
        self.connected = asyncio.Event()
        self.reconnected_at = float("-inf")
        self.max_payload = 1 << 20
        self.on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self.on_denied: list[Callable[[str], None]] = []
        self._client = HeaderClient()
        self._subscriptions: list[Subscription] = []
        self.replies = Replies(self.token)
        self._errors: list[Exception] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = asyncio.Event()
        self._established = False
        self._refused = asyncio.Event()
        self._closing = asyncio.Event()
        self.servers = context.url.split(",")
        random.shuffle(self.servers)
        self.together = Together(len(self.servers), self._move)

    @property
    def closing(self) -> bool:
        """Whether it is closed for good."""
        return self._closing.is_set()

    @property
    def clustered(self) -> bool:
        """Whether there are several servers, or the link to a site: one can be away while others serve."""
        return len(self.servers) > 1 or bool(self.context.site)

    # ------------------------------------------------------------------ opening and closing

    async def open(self, timeout_s: float) -> None:
        """Make the first connection. Raises BrokerUnreachable or AccessDenied within `timeout_s`."""
        await self._connect(self._client, timeout_s)
        self._established = True
        try:
            await self._keep(
                self.replies.subject, lambda client: client.listen(self.replies.subject, self.replies.deliver)
            )
        except BaseException:
            await self.close()
            raise
        self.connected.set()

    async def _connect(self, client: HeaderClient, timeout_s: float) -> None:
        self._errors.clear()
        self._failed.clear()
        attempt = asyncio.ensure_future(self._dial(client))
        failed = asyncio.ensure_future(self._failed.wait())
        try:
            await asyncio.wait({attempt, failed}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not attempt.done() or attempt.exception():
                raise self._why(attempt.exception() if attempt.done() else None)
        except BaseException:
            await undisturbed(self._give_up(attempt, client))
            raise
        finally:
            failed.cancel()
        self.max_payload = client.max_payload

    @staticmethod
    async def _give_up(attempt: asyncio.Future[None], client: HeaderClient) -> None:
        """Leave nothing of an attempt: no task, no socket."""
        while not attempt.done():
            attempt.cancel()  # again: nats-py's wait_for, on Python 3.11, forgets one that comes with its answer
            await asyncio.wait({attempt}, timeout=0.1)
        await client.close()

    async def _dial(self, client: HeaderClient) -> None:
        seed = self.context.seed
        interval_s, silent = CLUSTER_PINGS if self.clustered else PINGS
        client.on_servers = self.together.tell
        await client.connect(
            servers=self.servers,
            dont_randomize=True,  # they are shuffled here: the next one is then never the one that was left
            name=self.name,
            nkeys_seed_str=seed or None,
            inbox_prefix=reply_prefix(self.token),
            skip_subject_validation=True,
            pending_size=-1,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # a float works
            connect_timeout=2,
            ping_interval=interval_s,
            max_outstanding_pings=silent,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnect,
            reconnected_cb=self._on_reconnect,
            closed_cb=partial(self._on_closed, client),
        )

    def _why(self, ended_by: BaseException | None) -> BrokerError:
        # The broker closes right after its refusal, so the refusal may be followed by a reset.
        refused = next((each for each in self._errors if is_refusal(each)), None)
        error = ended_by or refused or (self._errors[-1] if self._errors else None)
        if refused:
            return self._access_denied()
        if isinstance(error, OSError) or error is None:
            return BrokerUnreachable(
                f"no broker at {self.context.url}: start one with `jsnats up` or name another with --nats"
            )
        return BrokerUnreachable(f"no connection to the broker at {self.context.url}: {error or type(error).__name__}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close for good, and leave no task and no socket; waiting requests fail."""
        self._closing.set()
        self.connected.clear()
        self.together.close()
        others = {task for task in self._tasks if task is not asyncio.current_task()}
        for task in others:
            task.cancel()
        self.replies.fail(BrokerUnreachable("the connection was closed"))
        await undisturbed(self._end(others))

    async def _end(self, others: set[asyncio.Task[None]]) -> None:
        await self._client.close()
        if others:
            await asyncio.wait(others, timeout=CLOSE_S)  # one that gives up an attempt has to close it

    async def wait_connected(self) -> None:
        """Wait for the broker to be there.

        Raises BrokerUnreachable after OUTAGE_S, and at once when this is closed; AccessDenied if it locks us out.
        """
        if self.connected.is_set():
            return
        waits = {asyncio.ensure_future(event.wait()) for event in (self.connected, self._refused, self._closing)}
        try:
            done, _ = await asyncio.wait(waits, timeout=OUTAGE_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self.closing:
            raise BrokerUnreachable("the connection was closed")
        if not done:
            raise BrokerUnreachable(f"the broker at {self.context.url} did not come back within {OUTAGE_S:g} s")
        if self._refused.is_set():
            raise self._access_denied()

    # ------------------------------------------------------------------ subscriptions

    async def _keep(self, subject: str, subscribe: Subscribe) -> Subscription:
        subscription = Subscription(self, subject, subscribe)
        self._subscriptions.append(subscription)
        try:
            await subscription.attach(self._client)
        except nats.errors.ConnectionClosedError as error:
            if self.closing:
                self.forget(subscription)
                raise BrokerUnreachable("the connection was closed") from error
            log.debug("subscribe to %s: with the next client", subject)  # `_replace` makes it
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Do not renew that subscription."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    # ------------------------------------------------------------------ faults

    async def _on_error(self, error: Exception) -> None:
        self._errors = [*self._errors[-7:], error]
        if forbidden := denied(error):
            self._deny(*forbidden)
        if is_refusal(error) and self._established and not self._refused.is_set():
            self._refuse()
        if is_refusal(error) or len(self._errors) >= len(self.servers):
            self._failed.set()
        log.debug("%s: %s", self.name, error or type(error).__name__)

    def _refuse(self) -> None:
        """Our credential was accepted once and is not any more: say so, and try again from time to time."""
        self._refused.set()
        self.replies.fail(self._access_denied())
        self.spawn(self._client.close())  # nats-py would knock five times a second

    def _access_denied(self) -> AccessDenied:
        return AccessDenied(f"the broker at {self.context.url} does not accept the credential of {self.context.name!r}")

    def _deny(self, verb: str, subject: str) -> None:
        # nats-py lower-cases the text, so compare in lower case.
        error = AccessDenied(f"{self.context.name} ({self.context.role}) has no permission to {verb[:9]} {subject}")
        self.replies.fail_denied(subject, error)
        for tell in self.on_denied:
            tell(subject)

    def _move(self) -> None:
        """Our server is cut off from most of the others, and we with it from whoever is there."""
        log.info("%s: its server sees too few of the others, trying another", self.name)
        self.spawn(self._client.force_reconnect())

    async def _on_disconnect(self) -> None:
        self.connected.clear()
        if not self.closing and self._established:
            log.info("%s: lost the broker at %s, reconnecting", self.name, self.context.url)
        self.replies.fail_lost(Disconnected(f"the connection to {self.context.url} was lost before the reply"))

    async def _on_reconnect(self) -> None:
        self.reconnected_at = asyncio.get_running_loop().time()
        self.max_payload = self._client.max_payload
        self._refused.clear()
        self.connected.set()
        log.info("%s: back at the broker", self.name)
        for told in list(self.on_reconnect):
            self.spawn(told())

    async def _on_closed(self, client: HeaderClient) -> None:
        # An attempt that failed is closed too; replacing those would double the attempts each time.
        if self._established and not self.closing and client is self._client:
            self.connected.clear()
            self.spawn(self._replace())

    async def _replace(self) -> None:
        """nats-py gave up (an expired credential, a protocol violation): begin again with a new client."""
        while not self.closing:
            log.warning(
                "%s: connection closed by the broker (%s), opening a new one", self.name, self._client.last_error
            )
            await asyncio.sleep(5.0 if self._refused.is_set() else 0.5)
            client = HeaderClient()
            try:
                await self._connect(client, 5.0)
            except BrokerError as error:
                log.warning("%s", error)
                if isinstance(error, AccessDenied):
                    self.replies.fail(error)
                continue
            self._client = client
            for subscription in list(self._subscriptions):
                await subscription.attach(client)
            await self._on_reconnect()
            return

    def spawn(self, work: Any) -> None:
        """Run a coroutine until this connection closes."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("%s: a background task failed", self.name, exc_info=task.exception())


async def undisturbed(clean_up: Coroutine[Any, Any, None]) -> None:
    """Run a short clean-up to its end, whoever is cancelled meanwhile; that cancellation is raised then."""
    running = asyncio.ensure_future(clean_up)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled
    running.result()
