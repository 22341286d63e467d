"""One connection to the broker, as the protocol needs it: what is sent, asked and heard over it.

What it adds to nats-py: nothing buffered while disconnected (a power_off that had timed out ran 1.7 s later); one
subscription for all replies; questions that may be repeated, which wait for a broker that is away and, in a cluster,
are asked again until a new leader is elected. `_lasting.py` keeps it alive.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import nats.errors

from jsnats.schemas import BrokerUnfit, BrokerUnreachable, ProtocolError, TooLarge

from ._broker_errors import ApiError, Disconnected, NoResponders, is_no_responders
from ._cluster import ATTEMPT_S, ELECTION_S, MAX_ATTEMPT_S, NOBODY_S
from ._context import Context
from ._lasting import RECONNECT_WAIT_S, LastingConnection, Subscription
from ._nats import Msg

Headers = Mapping[str, str]
Callback = Callable[[Msg], Awaitable[None]]
Listener = Callable[[Msg], None]

_HEADER_ROOM = 2048
GRACE_S = 5.0
"""After a reconnect, how long others (the agent, JetStream) may take to be back before "no responders" counts."""
_SERVICES = ("jsnats.lease.", "jsnats.admin.", "jsnats.store.", "$SRV.")


class Connection(LastingConnection):
    """A connection of one principal. Make it with `open_connection`."""

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


async def open_connection(context: Context, *, name: str = "jsnats", timeout_s: float = 5.0) -> Connection:
    """Connect as the principal of `context`: `async with await open_connection(context) as connection:` closes it.

    Raises BrokerUnreachable, AccessDenied.
    """
    connection = Connection(context, name)
    await connection.open(timeout_s)
    return connection
