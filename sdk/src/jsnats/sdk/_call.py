"""A call: one message there, one back, and everything that can go wrong in between.

The caller never waits blindly. After a second of silence it asks the exporter on ctl whether the call runs: no
responders means the agent is dead; an unknown call was lost on the way and is sent again under the same id; a
finished one is answered again. After a reconnect every open call is sent again with the agent instance it went to,
and the agent attaches it to the call that runs or returns the answer it kept.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jsnats.schemas import (
    MSGPACK,
    CallCancelled,
    CallError,
    DeadlineExceeded,
    ExporterOffline,
    LeaseLost,
    LeaseRequired,
    TooLarge,
    call_subject,
    content_type,
    ctl_subject,
    decode,
    encode_msgpack,
    headers as h,
)

from ._broker_errors import Disconnected, NoResponders
from ._claim import Claim
from ._nats import Msg

if TYPE_CHECKING:
    from ._caller import Caller

SILENCE_S = 1.0
"""Silence after which a caller asks whether its call still runs."""
UNANSWERED_S = 10.0
"""How long a probe may stay unanswered: a busy interpreter is not a dead one."""
ELSEWHERE_S = 20.0
"""The same in a cluster, where the exporter may first have to notice that its server is silent."""
PART_SIZE = 512 * 1024
PART_WINDOW = 8
MAX_ARGUMENTS = 64 << 20

Progress = Callable[[dict[str, Any]], None]
_LEASE_OVER = (LeaseRequired.code, LeaseLost.code, CallCancelled.code)
LEASE_S = 0.5
"""How much later than the exporter's answer the record may come that says why a lease has ended."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a call is made. `timeout_s` becomes its deadline; `on_progress` gets maps with done, total, message;
    `detach` lets it go on without its caller; `claim` is the lease that it is made under."""

    timeout_s: float | None = None
    on_progress: Progress | None = None
    detach: bool = False
    claim: Claim | None = None


DEFAULT = Options()


def encode_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Body of a call: empty, an array or a map."""
    if args:
        return encode_msgpack(args)
    return encode_msgpack(kwargs) if kwargs else b""


class Call:
    """One open call. `exchange()` sends it and returns the final reply."""

    def __init__(self, caller: Caller, exporter: str, path: str, method: str, body: bytes, options: Options) -> None:
        self.caller = caller
        self.exporter, self.path, self.method = exporter, path, method
        self.id = os.urandom(16).hex()
        self.subject = call_subject(exporter, caller.connection.token, path, method)
        self.control = ctl_subject(exporter, caller.connection.token, self.id)
        self.body = body
        self.options = options
        self.headers = {h.VERSION: h.PROTOCOL, h.CALL: self.id, h.CONTENT_TYPE: MSGPACK}
        self.parts: list[bytes] = []
        self.instance = caller.instances.get(exporter, "-")
        self.sent_at = self.heard = 0.0
        self.reply = ""
        self.final: asyncio.Future[Msg] = caller.loop.create_future()
        self.probing = False
        self.nobody_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def exchange(self) -> Msg:
        """Send and wait for the last reply. Raises CallError and BrokerError."""
        try:
            await self.begin()
            return await self.final
        except (asyncio.CancelledError, DeadlineExceeded):
            await self.cancel()
            raise
        finally:
            self.leave()

    async def begin(self) -> None:
        """Expect replies, set the deadline if there is to be one, and send."""
        self.open()
        if self.options.timeout_s is not None:
            self._timer = self.caller.loop.call_later(self.options.timeout_s, self._time_is_up)
            await self._set_deadline(self.options.timeout_s)
        await self.send()

    def leave(self) -> None:
        """Expect nothing more."""
        if self.final.done() and not self.final.cancelled():
            self.final.exception()  # seen: it may have come while nobody waited for it
        if self._timer:
            self._timer.cancel()
        self.caller.unwatch(self)

    def open(self) -> None:
        """Complete the headers, expect replies, be watched. Arguments too large for one message become parts.

        Raises LeaseLost without sending anything, TooLarge.
        """
        claim = self.options.claim
        if claim and claim.lost:
            raise claim.error(self.path, self.method)
        if claim and claim.epoch:
            self.headers[h.EPOCH] = str(claim.epoch)
        if self.options.on_progress:
            self.headers[h.PROGRESS] = "1"
        if self.options.detach:
            self.headers[h.DETACH] = "1"
        if len(self.body) > PART_SIZE:
            self._cut()
        self.reply = self.caller.connection.replies.expect(self.subject, self.on_message, self.fail)
        self.caller.watch(self)

    def _cut(self) -> None:
        if len(self.body) > MAX_ARGUMENTS:
            text = f"arguments of {len(self.body) >> 20} MiB are over the limit of {MAX_ARGUMENTS >> 20} MiB"
            raise TooLarge(text, path=self.path, method=self.method)
        self.parts = [self.body[i : i + PART_SIZE] for i in range(0, len(self.body), PART_SIZE)]
        self.body = b""
        self.headers[h.PARTS] = str(len(self.parts))

    def _time_is_up(self) -> None:
        self.fail(self._late())

    def _late(self) -> DeadlineExceeded:
        connection = self.caller.connection
        why = "" if connection.connected.is_set() else f": the broker at {connection.context.url} is not reachable"
        text = f"no result within {self.options.timeout_s:g} s{why}"
        return DeadlineExceeded(text, path=self.path, method=self.method)

    async def _set_deadline(self, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s) as limit:
                offset = await self.caller.clock_offset(self.exporter)
        except TimeoutError:
            if limit.expired():
                raise self._late() from None
            text = f"exporter {self.exporter!r} has not answered for {self.patience_s:g} s; the call was not sent"
            raise ExporterOffline(text, path=self.path, method=self.method) from None
        self.headers[h.DEADLINE] = str(int((end + offset) * 1000))

    async def send(self) -> None:
        """Send the call, waiting for a connection if there is none. A second time it names where it went before."""
        now = self.caller.loop.time()
        if self.sent_at:
            self.headers[h.RETRY] = f"{self.instance} {int((now - self.sent_at) * 1000)}"
        self.heard = now
        while not self.final.done():
            self.sent_at = self.sent_at or now  # a cancellation while it is being sent must cancel it there too
            try:
                await self.caller.connection.publish(self.subject, self.body, reply=self.reply, headers=self.headers)
            except Disconnected:
                await self.caller.connection.wait_connected()
            else:
                self.heard = self.caller.loop.time()
                return

    async def cancel(self) -> None:
        """Tell the exporter that nobody wants the result any more."""
        if self.sent_at:
            await self.caller.control(self.control, "cancel")

    async def hang_up(self) -> None:
        """The lab is being closed. What was called runs to its end; a stream without a reader is ended there soon."""

    # ------------------------------------------------------------------ what comes back

    def on_message(self, message: Msg) -> None:
        """Handle a message on our reply subject."""
        headers = message.headers
        if headers and headers.get(h.STATUS) == "503":
            self.no_responders()
            return
        self.is_heard()
        if headers is None:
            self._settle(message)
        elif h.INTERIM in headers:
            self._interim(headers[h.INTERIM], message)
        elif h.ERROR_CODE not in headers or not self.await_lease(
            self.caller.remote_error(message), lambda: self._settle(message)
        ):
            self._settle(message)

    def await_lease(self, error: CallError, otherwise: Callable[[], None]) -> bool:
        """Whether `error` may be because a lease of ours has ended.

        Then the lab's record, which is on its way, says why and fails this call; if it does not come soon, `otherwise`
        is called.
        """
        claim = self.options.claim
        if claim is None or claim.refused is None or claim.lost or error.code not in _LEASE_OVER:
            return False
        refused = claim.refused

        def say() -> None:
            if error.code != CallCancelled.code:
                refused(error.message)
            otherwise()

        self.caller.loop.call_later(LEASE_S, say)
        return True

    def _settle(self, message: Msg) -> None:
        if not self.final.done():
            self.final.set_result(message)

    def _tell_progress(self, content: dict[str, Any]) -> None:
        try:
            if self.options.on_progress:
                self.options.on_progress(content)
        except Exception as error:  # noqa: BLE001 - the user's, who must see it
            self.fail(error)
            self.caller.connection.spawn(self.cancel())

    def first(self, message: Msg) -> None:
        """The first results of a stream, ahead of their stored copy; a plain call has none."""

    def accepted(self, message: Msg) -> None:
        """The exporter has begun. A detached call needs no more than that."""
        if self.options.detach:
            self._settle(message)

    def fail(self, error: Exception) -> None:
        """End the call with an error of this side."""
        if not self.final.done():
            self.final.set_exception(error)

    def _interim(self, kind: str, message: Msg) -> None:
        if kind == "first":
            self.first(message)
            return
        content = decode(message.data, content_type(message.headers)) or {}
        self.instance = content.get("instance", self.instance)
        if kind == "parts":
            self.caller.connection.spawn(self._send_parts(int(content.get("have", 0))))
        elif kind == "progress":
            self._tell_progress(content)
        elif kind == "accepted":
            self.accepted(message)

    async def _send_parts(self, have: int) -> None:
        """Send the argument parts from number `have` on; each one is answered with how many are there."""
        for start in range(have, len(self.parts), PART_WINDOW):
            window = range(start, min(start + PART_WINDOW, len(self.parts)))
            try:
                await asyncio.gather(*(self._send_part(index) for index in window))
            except (Disconnected, NoResponders, TimeoutError):
                return  # the silence that follows makes the watchdog ask, and the answer says where to go on
            self.heard = self.caller.loop.time()

    async def _send_part(self, index: int) -> None:
        headers = {h.VERSION: h.PROTOCOL, h.CTL: "part", h.PART: f"{index}/{len(self.parts)}"}
        await self.caller.connection.request(self.control, self.parts[index], headers=headers)

    def no_responders(self) -> None:
        """The broker knows no subscriber: dead, unless we have only just come back ourselves."""
        if self.in_grace():
            self.heard = self.caller.loop.time()
            self.caller.loop.call_later(0.25, self.again)
        else:
            self.fail(ExporterOffline(self._offline_text(), path=self.path, method=self.method))

    @property
    def patience_s(self) -> float:
        """For how long the exporter may be silent."""
        return ELSEWHERE_S if self.caller.connection.clustered else UNANSWERED_S

    def is_heard(self) -> None:
        """The exporter has said something."""
        self.heard = self.caller.heard[self.exporter] = self.caller.loop.time()
        self.nobody_since = 0.0

    def in_grace(self) -> bool:
        """Nobody is there: whether the agent may be about to come back."""
        self.nobody_since = self.nobody_since or self.caller.loop.time()
        return self.caller.in_grace(self.exporter, self.nobody_since)

    def _offline_text(self) -> str:
        known = "the call may have run" if self.instance != "-" and self.sent_at and h.RETRY in self.headers else ""
        advice = f"exporter {self.exporter!r} is offline"
        return f"{advice}; {known}" if known else f"{advice}: see `jsnats ls`"

    def again(self) -> None:
        """Send once more under the same id."""
        if not self.final.done():
            self.caller.connection.spawn(self.send())

    # ------------------------------------------------------------------ silence

    def tick(self, now: float) -> None:
        """Called a few times a second: probe after silence."""
        if not self.probing and now - self.heard > SILENCE_S and self.sent_at:
            self.probing = True
            self.caller.connection.spawn(self._probe())

    async def _probe(self) -> None:
        try:
            state = await self.caller.probe(self.control)
        except NoResponders:
            self.no_responders()
        except TimeoutError:
            if self.caller.connection.connected.is_set():
                text = f"exporter {self.exporter!r} has not answered for {self.patience_s:g} s; the call may have run"
                self.fail(ExporterOffline(text, path=self.path, method=self.method))
        else:
            self._on_state(state)
        finally:
            self.probing = False

    def _on_state(self, state: dict[str, Any] | None) -> None:
        if state is None:  # disconnected: the reconnect takes care
            return
        before = self.heard
        self.is_heard()
        self.heard += min(4.0, before - self.sent_at)
        if state.get("state") in ("unknown", "parts"):
            self.again()
