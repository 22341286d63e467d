"""What all calls over one connection share: the watchdog, the exporters' clocks, what they were last heard of."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from typing import Any

from jsnats.schemas import (
    MSGPACK,
    BrokerUnreachable,
    CallError,
    ExporterOffline,
    content_type,
    ctl_subject,
    decode,
    encode_msgpack,
    error_from_wire,
    headers as h,
)

from ._broker_errors import Disconnected, NoResponders
from ._call import DEFAULT, ELSEWHERE_S, UNANSWERED_S, Call, Options
from ._claim import Claim
from ._cluster import ATTEMPT_S, NOBODY_S
from ._connection import Connection
from ._lasting import OUTAGE_S
from ._nats import Msg
from ._replay import stored_result

TICK_S = 0.25
OFFSET_S = 60.0
HANG_UP_S = 3.0
"""How long closing a lab may wait for drivers that are given the last of what was sent to them."""
"""How long a measured clock offset is used."""


class Caller:
    """Makes calls over one connection and watches the open ones."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.loop = asyncio.get_running_loop()
        self.instances: dict[str, str] = {}
        self.heard: dict[str, float] = {}
        self._open: dict[Any, None] = {}
        self._offsets: dict[str, tuple[float, float]] = {}
        self._watchdog: asyncio.Task[None] | None = None
        connection.on_reconnect.append(self._resume)

    async def call(self, exporter: str, path: str, method: str, body: bytes, options: Options = DEFAULT) -> Any:
        """Make one call and return its result as plain data. Raises CallError, BrokerError."""
        call = Call(self, exporter, path, method, body, options)
        return await self.result(call, await call.exchange())

    async def detach(self, exporter: str, path: str, method: str, body: bytes, claim: Claim | None = None) -> str:
        """Start a call that goes on without its caller; return its job id, `<exporter>.<call>`."""
        call = Call(self, exporter, path, method, body, Options(detach=True, claim=claim))
        message = await call.exchange()
        if message.headers and h.ERROR in message.headers:
            raise self.remote_error(message)
        return f"{exporter}.{call.id}"

    async def result(self, call: Call, message: Msg) -> Any:
        """Decode a final reply; a big result is read from where it is stored."""
        headers = message.headers
        if not headers:
            return decode(message.data, MSGPACK)
        kind = headers.get(h.CONTENT_TYPE, MSGPACK)
        if h.ERROR in headers:
            raise self.remote_error(message)
        if h.PARTS in headers:
            return await stored_result(self.connection, call.exporter, call.id)
        return decode(message.data, kind)

    @staticmethod
    def remote_error(message: Msg) -> CallError:
        """The error that a reply carries."""
        headers = message.headers or {}
        kind = content_type(headers)
        code = headers.get(h.ERROR_CODE, "")
        return error_from_wire(int(code) if code.isdigit() else 500, decode(message.data, kind))

    async def control(
        self, subject: str, verb: str, body: dict[str, Any] | None = None, *, timeout_s: float = 0.0
    ) -> dict[str, Any] | None:
        """Send a control message; with a timeout, wait for the answer. None when there is no connection."""
        headers = {h.VERSION: h.PROTOCOL, h.CTL: verb, h.CONTENT_TYPE: MSGPACK}
        content = encode_msgpack(body) if body else b""
        try:
            if not timeout_s:
                await self.connection.publish(subject, content, headers=headers)
                return None
            message = await self.connection.request(subject, content, headers=headers, timeout_s=timeout_s)
        except Disconnected:
            return None
        if message.headers and h.ERROR in message.headers:
            raise self.remote_error(message)
        answer: dict[str, Any] = decode(message.data, MSGPACK) or {}
        return answer

    async def probe(
        self, subject: str, verb: str = "probe", body: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """Ask on ctl. In a cluster again and again: the server on the way may be silent, or cut off.

        Raises NoResponders, TimeoutError after UNANSWERED_S, in a cluster after ELSEWHERE_S.
        """
        if not self.connection.clustered:
            return await self.control(subject, verb, body, timeout_s=UNANSWERED_S)
        end = self.loop.time() + ELSEWHERE_S
        while True:
            try:
                return await self.control(subject, verb, body, timeout_s=ATTEMPT_S)
            except TimeoutError:
                if self.loop.time() >= end:
                    raise

    async def clock_offset(self, exporter: str) -> float:
        """Seconds to add to time.monotonic() here to get Unix time there; asked again after a minute."""
        offset, measured = self._offsets.get(exporter, (0.0, float("-inf")))
        begin = time.monotonic()
        if begin - measured < OFFSET_S:
            return offset
        subject = ctl_subject(exporter, self.connection.token, secrets.token_hex(16))
        asked, answer = self.loop.time(), None
        while answer is None:
            await self.connection.wait_connected()
            begin = time.monotonic()
            try:
                answer = await self.probe(subject)
            except NoResponders:
                if not self.in_grace(exporter, asked):
                    raise ExporterOffline(f"exporter {exporter!r} is offline: see `jsnats ls`") from None
                await asyncio.sleep(0.25)
        end = time.monotonic()
        offset = float(answer["time"]) / 1000 - (begin + end) / 2
        self._offsets[exporter] = (offset, end)
        return offset

    # ------------------------------------------------------------------ watching

    def in_grace(self, exporter: str, since: float) -> bool:
        """Say whether an agent that nobody sees since then may not be back yet: we ourselves came back so recently, or
        in a cluster its server may have died."""
        if self.connection.clustered and self.loop.time() - since < NOBODY_S:
            return True
        back = self.connection.reconnected_at
        return self.connection.just_back and self.heard.get(exporter, back) <= back

    def watch(self, item: Any) -> None:
        """Give `item` its ticks, and `again()` on reconnect, until it is unwatched."""
        self._open[item] = None
        if self._watchdog is None or self._watchdog.done():
            self._watchdog = self.loop.create_task(self._tick())

    def unwatch(self, item: Any) -> None:
        """Stop watching; nothing more is expected for it."""
        self._open.pop(item, None)
        self.connection.replies.drop(item.reply)

    def lose(self, claim: Claim, why: str) -> None:
        """A lease has ended: fail what runs under it with LeaseLost."""
        claim.lost = why
        for item in list(self._open):
            if item.options.claim is claim:
                item.fail(claim.error(item.path, item.method))

    async def _tick(self) -> None:
        down_since: float | None = None
        while self._open:
            await asyncio.sleep(TICK_S)
            now = self.loop.time()
            if self.connection.connected.is_set():
                down_since = None
                for item in list(self._open):
                    item.tick(now)
                continue
            down_since = down_since or now
            if now - down_since > OUTAGE_S:
                for item in list(self._open):
                    item.fail(_outage())

    async def _resume(self) -> None:
        for item in list(self._open):
            item.again()

    async def close(self) -> None:
        """Hang up, as far as that is possible within HANG_UP_S, and stop the watchdog."""
        if self.connection.connected.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(HANG_UP_S):
                    await asyncio.gather(*(item.hang_up() for item in self._open), return_exceptions=True)
        if self._watchdog:
            self._watchdog.cancel()


def _outage() -> BrokerUnreachable:
    return BrokerUnreachable(f"the broker did not come back within {OUTAGE_S:g} s; the call may have run")
