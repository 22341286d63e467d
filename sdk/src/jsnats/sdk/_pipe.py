"""A two-way byte stream at one of its ends: what both the client and the exporter do with bytes and acknowledgements.

Everything here is plain functions called from the read loop of the connection: no task and no queue stands between the
socket and whoever takes the bytes. 64 MiB each way survive the broker's death; what is on its way is at most a window.
"""

from __future__ import annotations

import logging
from asyncio import get_running_loop
from collections.abc import Iterator
from typing import Protocol

from jsnats.schemas import (
    CHUNK,
    END,
    MESSAGE,
    WINDOW,
    Chunk,
    Incoming,
    Outgoing,
    ProtocolError,
    TooLarge,
    ack_headers,
    check_control,
    chunk_headers,
    headers as h,
    parse_ack,
    parse_chunk,
)

from ._connection import Connection
from ._nats import Msg

log = logging.getLogger("jsnats.bytes")

RESEND_S = 1.0
"""Silence after which unacknowledged bytes are sent again; doubled each time up to RESEND_MAX_S."""
RESEND_MAX_S = 8.0
MAX_MESSAGE = 16 << 20
"""Bytes of a message whose boundaries are kept: a longer one resets its stream."""
REPEAT_S = 0.2
"""A second request to send again from the same place within this time is the echo of the first."""


class Taker(Protocol):
    """Whoever uses a pipe: it is told in the read loop, so it must be quick."""

    def on_bytes(self, body: bytes, mark: str) -> None:
        """Bytes came, in order, then what `mark` says. Call `pipe.use(...)` once they are handed on."""

    def on_room(self) -> None:
        """More may be sent, or everything sent has arrived."""

    def on_over(self, error: Exception | None) -> None:
        """The stream is over, with an error if it was reset."""


class Pipe:
    """Bytes out on `subject`, bytes in by `on_message`; `limit` is the other side's window."""

    def __init__(self, connection: Connection, subject: str, taker: Taker, limit: int, window: int = WINDOW) -> None:
        self.connection = connection
        self.subject = subject
        self.taker = taker
        self.out = Outgoing(limit)
        self.into = Incoming(window)
        self._loop = get_running_loop()
        self.heard = self._progress_at = self._loop.time()
        self._patience = RESEND_S
        self._asked: tuple[int, float] = (-1, 0.0)
        self._resent: tuple[int, float] = (-1, 0.0)
        self._stale = False
        connection.on_reconnect.append(self._on_reconnect)

    def close(self) -> None:
        """Forget everything."""
        if self._on_reconnect in self.connection.on_reconnect:
            self.connection.on_reconnect.remove(self._on_reconnect)
        self.out.unacked.clear()

    # ------------------------------------------------------------------ sending

    @property
    def may_send(self) -> bool:
        """Say whether `send` may be called."""
        return self.out.may_send

    @property
    def all_arrived(self) -> bool:
        """Say whether the other side has acknowledged everything."""
        return not self.out.unacked

    def send(self, body: bytes | memoryview, mark: str = "") -> None:
        """Send at most CHUNK bytes now, and keep them until they have arrived: they must not change meanwhile."""
        if not self.out.unacked:
            self._progress_at = self._loop.time()
        self._push(self.out.add(body, mark))

    def end(self, mark: str = END) -> None:
        """Say that nothing follows; with CLOSE, that nothing is read any more either."""
        self.send(b"", mark)

    def _push(self, chunk: Chunk) -> None:
        self.connection.push(self.subject, chunk.body, chunk_headers(chunk))

    def _send_again(self) -> None:
        for chunk in self.out.unacked:
            self._push(chunk)

    # ------------------------------------------------------------------ receiving

    def on_message(self, message: Msg) -> None:
        """Handle a message of the other side. Raises ProtocolError for one that is none of its."""
        headers = message.headers
        check_control(headers)
        assert headers is not None
        self.heard = self._loop.time()
        if h.ACK in headers:
            self._on_ack(*parse_ack(headers), resend=h.CTL in headers)
        if h.OFFSET in headers:
            self._on_chunk(*parse_chunk(headers), message.data)

    def _on_chunk(self, offset: int, mark: str, body: bytes) -> None:
        verdict = self.into.take(offset, len(body), mark)
        if verdict == "next":
            self.taker.on_bytes(body, mark)
        elif verdict == "gap":
            self._ask_again()
        else:
            self._stale = True  # its acknowledgement was lost, and of its followers too: one for all is enough

    def use(self, size: int) -> None:
        """Note that so many positions (bytes and marks) were handed on."""
        if self.into.use(size):
            self.tell()

    def tell(self, *, resend: bool = False) -> None:
        """Acknowledge what has arrived."""
        self.connection.push(self.subject, b"", ack_headers(*self.into.ack(), resend=resend))

    def _ask_again(self) -> None:
        place, at = self._asked
        now = self._loop.time()
        if place != self.into.expected or now - at > REPEAT_S:
            self._asked = (self.into.expected, now)
            self.tell(resend=True)

    def _on_ack(self, position: int, limit: int, *, resend: bool) -> None:
        out = self.out
        now = self._loop.time()
        if out.ack(position, limit):
            self._progress_at, self._patience = now, RESEND_S
        if resend:
            self._stale = True  # the other side may not have heard our last acknowledgement either
            place, at = self._resent
            if place != out.acked or now - at > REPEAT_S:
                self._resent = (out.acked, now)
                self._send_again()
        self.taker.on_room()

    # ------------------------------------------------------------------ time and faults

    def tick(self, now: float) -> None:
        """Called a few times a second: acknowledge what was not yet, send again what nobody acknowledges."""
        if self.into.untold or self._stale:
            self._stale = False
            self.tell()
        waits = self.out.unacked or not self.out.may_send
        if waits and now - self._progress_at > self._patience and self._all_left():
            self._progress_at, self._patience = now, min(2 * self._patience, RESEND_MAX_S)
            if self.out.unacked:
                self._send_again()
            else:
                self.tell(resend=True)  # the acknowledgement that gave room may be lost

    def _all_left(self) -> bool:
        """Say whether a new copy may reach the broker sooner than the first: over a slow line, copies that queue up
        behind it take the room of what is new."""
        return self.connection.connected.is_set() and not self.connection.waiting

    async def _on_reconnect(self) -> None:
        """What was on its way in either direction is lost."""
        self._progress_at, self._patience = self._loop.time(), RESEND_S
        self.tell(resend=True)
        self._send_again()


class Messages:
    """Puts messages together that came in several chunks."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, body: bytes, mark: str) -> bytes | None:
        """Take a chunk; return the message that it ends. Raises TooLarge."""
        self._size += len(body)
        if self._size > MAX_MESSAGE:
            raise TooLarge(f"a message is over {MAX_MESSAGE >> 20} MiB")
        self._parts.append(body)
        if mark != MESSAGE:
            return None
        whole = b"".join(self._parts) if len(self._parts) > 1 else body
        self._parts.clear()
        self._size = 0
        return whole


def deliver(pipe: Pipe | None, message: Msg) -> None:
    """Hand a message to its pipe; one that is not the other side's is logged and dropped."""
    try:
        if pipe is None:
            raise ProtocolError("no such stream")
        pipe.on_message(message)
    except ProtocolError as error:
        log.debug("ignored a message on %s: %s", message.subject[:120], error)


def chunks(data: bytes, mark: str) -> Iterator[tuple[bytes | memoryview, str]]:
    """Cut bytes, which `mark` follows, into what single messages carry."""
    if not (data or mark):
        return
    if len(data) <= CHUNK:
        yield data, mark
        return
    view = memoryview(data)
    for at in range(0, len(view), CHUNK):
        yield view[at : at + CHUNK], mark if at + CHUNK >= len(view) else ""
