"""One connection to the broker, as the protocol needs it.

What it adds to nats-py: a bounded first attempt that says why it failed; nothing buffered while disconnected (a
power_off that had timed out ran 1.7 s later); one subscription for all replies; a denied request fails at once with
AccessDenied instead of a timeout; a client that closed for good is replaced by a new one.

In a cluster also: a server that is silent, or does not see the others any more, is left for another within seconds;
and what nobody answers is asked again until a new leader is elected.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import nats.errors

from jsnats.schemas import (
    AccessDenied,
    BrokerError,
    BrokerUnfit,
    BrokerUnreachable,
    ProtocolError,
    TooLarge,
    headers as h,
    reply_prefix,
)

from ._cluster import ATTEMPT_S, CLUSTER_PINGS, ELECTION_S, MAX_ATTEMPT_S, NOBODY_S, PINGS, Together
from ._context import Context
from ._nats import HeaderClient, Msg
from ._replies import Replies

log = logging.getLogger("jsnats.connection")

Headers = Mapping[str, str]
Callback = Callable[[Msg], Awaitable[None]]
Listener = Callable[[Msg], None]
Subscribe = Callable[[HeaderClient], Awaitable[Any]]

_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)
_HEADER_ROOM = 2048
RECONNECT_WAIT_S = 0.2
OUTAGE_S = 60.0
"""How long open calls and reads wait for the broker to come back."""
GRACE_S = 5.0
"""After a reconnect, how long others (the agent, JetStream) may take to be back before "no responders" counts."""
_SERVICES = ("jsnats.lease.", "jsnats.admin.", "jsnats.store.", "$SRV.")
_NO_LEADER = frozenset({10004, 10005, 10006, 10007, 10008, 10009})
"""What JetStream says while it has no leader, or not the servers that it wants."""


class Disconnected(BrokerError):
    """There is no connection right now, or none any more."""


class NoResponders(BrokerError):
    """Nobody is subscribed to that subject."""


class Subscription:
    """A subscription that outlives the client it was made with."""

    def __init__(self, connection: Connection, subject: str, subscribe: Subscribe) -> None:
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
            await self.inner.unsubscribe()
        except nats.errors.Error:
            log.debug("unsubscribe of %s: already gone", self.subject)


class Connection:
    """A connection of one principal. Make it with `open_connection`."""

    def __init__(self, context: Context, name: str) -> None:
        self.context = context
        self.name = name
        self.token = context.token
        self.connected = asyncio.Event()
        self.closing = False
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
        self.servers = context.url.split(",")
        random.shuffle(self.servers)
        self.together = Together(len(self.servers), self._move)

    @property
    def clustered(self) -> bool:
        """Whether there are several servers: one can be away while others serve."""
        return len(self.servers) > 1

    # ------------------------------------------------------------------ opening and closing

    async def open(self, timeout_s: float) -> None:
        """Make the first connection. Raises BrokerUnreachable or AccessDenied within `timeout_s`."""
        await self._connect(self._client, timeout_s)
        self._established = True
        await self.listen(self.replies.subject, self.replies.deliver)
        self.connected.set()

    async def _connect(self, client: HeaderClient, timeout_s: float) -> None:
        self._errors.clear()
        self._failed.clear()
        attempt = asyncio.ensure_future(self._dial(client))
        failed = asyncio.ensure_future(self._failed.wait())
        try:
            await asyncio.wait({attempt, failed}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not attempt.done() or attempt.exception():
                raise self._why()
        except BaseException:
            attempt.cancel()
            await asyncio.wait({attempt})
            await client.close()
            raise
        finally:
            failed.cancel()
        self.max_payload = client.max_payload

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

    def _why(self) -> BrokerError:
        # The broker closes right after its refusal, so the refusal may be followed by a reset.
        refused = next((each for each in self._errors if _is_auth(each)), None)
        error = refused or (self._errors[-1] if self._errors else None)
        if refused:
            return self._access_denied()
        if isinstance(error, OSError) or error is None:
            return BrokerUnreachable(
                f"no broker at {self.context.url}: start one with `jsnats up` or name another with --nats"
            )
        return BrokerUnreachable(f"no connection to the broker at {self.context.url}: {error or type(error).__name__}")

    async def close(self) -> None:
        """Close for good; waiting requests fail."""
        self.closing = True
        self.connected.clear()
        self.together.close()
        for task in list(self._tasks):
            task.cancel()
        self.replies.fail(BrokerUnreachable("the connection was closed"))
        await self._client.close()

    # ------------------------------------------------------------------ sending

    async def publish(
        self, subject: str, body: bytes | memoryview = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send one message now. Raises Disconnected if it cannot be sent now, TooLarge if it never can."""
        if len(body) + _HEADER_ROOM > self.max_payload:
            self._check_size(body, headers)
        try:
            await self._client.publish(subject, body, reply, headers)
        except nats.errors.BadHeaderError as error:
            raise ProtocolError(f"a header cannot be sent: {error}") from error
        except nats.errors.Error as error:
            if not self._client.is_connected:
                self.connected.clear()  # nats-py tells only some turns of the loop later: who waits would spin
            raise Disconnected(f"not connected to {self.context.url}") from error

    def push(self, subject: str, body: bytes | memoryview, headers: Headers) -> bool:
        """Write a small enough message to the socket at once, past every queue; False without a connection."""
        return self._client.push(subject, body, headers)

    @property
    def waiting(self) -> int:
        """Bytes of `push` that the socket has not taken yet."""
        return self._client.waiting

    def _check_size(self, body: bytes | memoryview, headers: Headers | None) -> None:
        # One byte over max_payload and the server closes the connection for good.
        size = len(body) + sum(len(k) + len(v.encode()) + 4 for k, v in (headers or {}).items()) + 12
        if size > self.max_payload:
            raise TooLarge(f"a message of {size} bytes is over the broker's limit of {self.max_payload}")

    async def request(
        self, subject: str, body: bytes = b"", *, headers: dict[str, str] | None = None, timeout_s: float = 5.0
    ) -> Msg:
        """Send a request and return the first reply. Raises NoResponders, TimeoutError, AccessDenied, and Disconnected
        when it could not be sent or the connection was lost before the reply."""
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        def settle(message: Msg) -> None:
            if not future.done():
                future.set_result(message)

        def fail(error: Exception) -> None:
            if not future.done():
                future.set_exception(error)

        reply = self.replies.expect(subject, settle, fail, once=True)
        try:
            await self.publish(subject, body, reply=reply, headers=headers)
            async with asyncio.timeout(timeout_s):
                message = await future
        finally:
            self.replies.drop(reply)
        if is_no_responders(message):
            raise NoResponders(f"nobody answers on {subject}")
        return message

    async def wait_connected(self) -> None:
        """Wait for the broker to be there. Raises BrokerUnreachable after OUTAGE_S, AccessDenied if it locks us out."""
        if self.connected.is_set():
            return
        if self.closing:
            raise BrokerUnreachable("the connection was closed")
        waits = {asyncio.ensure_future(event.wait()) for event in (self.connected, self._refused)}
        try:
            done, _ = await asyncio.wait(waits, timeout=OUTAGE_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not done:
            raise BrokerUnreachable(f"the broker at {self.context.url} did not come back within {OUTAGE_S:g} s")
        if self._refused.is_set():
            raise self._access_denied()

    @property
    def just_back(self) -> bool:
        """Say whether the connection was renewed moments ago."""
        return asyncio.get_running_loop().time() - self.reconnected_at < GRACE_S

    async def read(
        self,
        subject: str,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        timeout_s: float = 5.0,
        patience_s: float = ELECTION_S,
    ) -> Msg:
        """A request that may safely be repeated: it waits for the broker and goes on after an outage.

        In a cluster it is asked again for `patience_s` before it counts as unanswered: a server may have died with it.
        Raises NoResponders, AccessDenied, and BrokerUnreachable instead of a timeout.
        """
        now = asyncio.get_running_loop().time
        begin = now()
        attempt_s = min(timeout_s, max(ATTEMPT_S, timeout_s / 10)) if self.clustered else timeout_s
        while True:
            await self.wait_connected()
            try:
                return await self.request(subject, body, headers=headers, timeout_s=attempt_s)
            except Disconnected:
                continue
            except TimeoutError:
                if not self.clustered or now() - begin >= max(timeout_s, patience_s):
                    text = f"the broker at {self.context.url} does not answer {subject[:60]}"
                    raise BrokerUnreachable(text) from None
                attempt_s = min(2 * attempt_s, max(MAX_ATTEMPT_S, timeout_s / 5))
            except NoResponders:
                if not self.just_back and not (self.clustered and now() - begin < self._vacancy_s(subject)):
                    raise
                await asyncio.sleep(RECONNECT_WAIT_S)

    @staticmethod
    def _vacancy_s(subject: str) -> float:
        """How long nobody may answer there, in a cluster: JetStream does not as long as it has no leader."""
        return NOBODY_S if subject.startswith(_SERVICES) else ELECTION_S

    async def api(
        self,
        subject: str,
        body: Mapping[str, Any] | bytes = b"",
        *,
        timeout_s: float = 5.0,
        patience_s: float = ELECTION_S,
    ) -> dict[str, Any]:
        """A JetStream API request that may be repeated: `subject` without `$JS.API.`; the rest as in `read`.

        Raises BrokerUnfit without JetStream, ApiError, AccessDenied, BrokerUnreachable.
        """
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        end = asyncio.get_running_loop().time() + ELECTION_S
        while True:
            try:
                message = await self.read(f"$JS.API.{subject}", payload, timeout_s=timeout_s, patience_s=patience_s)
            except NoResponders:
                raise BrokerUnfit(
                    f"the broker at {self.context.url} has no JetStream for us: start it with `jsnats broker run`"
                ) from None
            answer: dict[str, Any] = json.loads(message.data)
            if "error" not in answer:
                return answer
            error = ApiError(answer["error"])
            if not error.is_passing or asyncio.get_running_loop().time() >= end:
                raise error
            await asyncio.sleep(RECONNECT_WAIT_S)

    async def flush(self) -> None:
        """Wait until the broker has processed what was sent; after an outage, until it has the subscriptions again.

        Raises BrokerUnreachable, AccessDenied.
        """
        while True:
            await self.wait_connected()
            with suppress(Disconnected):
                await self._flush_once()
                return

    async def _flush_once(self) -> None:
        flushing = asyncio.ensure_future(self._client.flush())
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def fail(error: Exception) -> None:
            if not lost.done():
                lost.set_exception(error)

        # No reply is expected: this tells of a lost connection, with which the answer is lost too.
        watched = self.replies.expect("", lambda _: None, fail, once=True)
        try:
            await asyncio.wait({flushing, lost}, return_when=asyncio.FIRST_COMPLETED)
            (lost if lost.done() else flushing).result()
        except TimeoutError:
            raise BrokerUnreachable(f"the broker at {self.context.url} does not answer") from None
        finally:
            self.replies.drop(watched)
            flushing.cancel()
            lost.cancel()

    # ------------------------------------------------------------------ receiving

    async def subscribe(self, subject: str, callback: Callback, *, queue: str = "") -> Subscription:
        """Subscribe; the subscription is made again on every reconnect. Of a `queue`, one member gets each message."""
        return await self._keep(
            subject,
            lambda client: client.subscribe(subject, queue, cb=callback, pending_msgs_limit=0, pending_bytes_limit=0),
        )

    async def listen(self, subject: str, callback: Listener) -> Subscription:
        """As `subscribe`, with a quick function that is called in the read loop itself."""
        return await self._keep(subject, lambda client: client.listen(subject, callback))

    async def _keep(self, subject: str, subscribe: Subscribe) -> Subscription:
        subscription = Subscription(self, subject, subscribe)
        self._subscriptions.append(subscription)
        await subscription.attach(self._client)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Do not renew that subscription."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    # ------------------------------------------------------------------ faults

    async def _on_error(self, error: Exception) -> None:
        self._errors = [*self._errors[-7:], error]
        denied = _DENIED.search(str(error))
        if denied:
            self._deny(denied[1].lower(), denied[2])
        if _is_auth(error) and self._established and not self._refused.is_set():
            self._refuse()
        if _is_auth(error) or len(self._errors) >= len(self.servers):
            self._failed.set()
        log.debug("%s: %s", self.name, error or type(error).__name__)

    def _refuse(self) -> None:
        """Our credential was accepted once and is not any more: say so, and try again from time to time."""
        self._refused.set()
        self.replies.fail(self._access_denied())
        self.spawn(self._client.close())  # nats-py would knock five times a second, leaving a socket each time

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


class ApiError(BrokerError):
    """JetStream refused. `code` is its err_code."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("description", "JetStream refused")))
        self.code = int(error.get("err_code", 0))

    @property
    def is_conflict(self) -> bool:
        """Whether the subject has another last message than was expected; a cluster has a code of its own for it."""
        return self.code in (10071, 10164)

    @property
    def is_passing(self) -> bool:
        """Whether a cluster says so only until it has elected a leader."""
        return self.code in _NO_LEADER


def is_no_responders(message: Msg) -> bool:
    """Say whether the broker answered that nobody listens."""
    return message.headers is not None and message.headers.get(h.STATUS) == "503" and not message.data


def _is_auth(error: Exception | None) -> bool:
    text = str(error).lower()
    if _DENIED.search(text):
        return False  # the subject in it may hold any word
    return isinstance(error, nats.errors.AuthorizationError) or "authorization" in text or "authentication" in text


async def open_connection(context: Context, *, name: str = "jsnats", timeout_s: float = 5.0) -> Connection:
    """Connect as the principal of `context`. Raises BrokerUnreachable, AccessDenied."""
    connection = Connection(context, name)
    await connection.open(timeout_s)
    return connection
