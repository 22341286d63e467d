"""One direction of a two-way byte stream, seen from either end. No I/O: what to send and what to believe.

Positions count bytes, and one more for each mark (the end of a message, the end of the direction), as TCP counts its
FIN: so an empty message has a place of its own. The sender keeps what is not acknowledged and sends it again from there
on; the receiver takes only what comes next, so nothing is lost, doubled or swapped, whatever happens on the way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from . import _headers as h
from ._errors import ProtocolError

MESSAGE, END, CLOSE = "message", "end", "close"
"""Marks: the bytes before it are one message; nothing follows; nothing follows and nothing more is read."""
MARKS = frozenset({"", MESSAGE, END, CLOSE})

CHUNK = 256 * 1024
"""Bytes in one NATS message, at most. What asyncio reads at once: of 64 KiB a tunnel carried a third less."""
WINDOW = 4 << 20
"""Bytes on their way or unread, at most. It is acknowledged each quarter."""

KEPT = 4 * WINDOW
"""Bytes that a sender keeps unacknowledged, at most, whatever the other side grants."""

NEXT, OLD, GAP = "next", "old", "gap"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes on their way: the position of the first, what they are, and what comes after them ("" for more)."""

    offset: int
    body: bytes | memoryview
    mark: str = ""

    @property
    def end(self) -> int:
        """Position of what comes next."""
        return self.offset + len(self.body) + bool(self.mark)


class Outgoing:
    """The sending end. `position` is where the next byte goes, `acked` what the other side has up to there."""

    __slots__ = ("acked", "limit", "position", "unacked")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.position = self.acked = 0
        self.unacked: deque[Chunk] = deque()

    @property
    def may_send(self) -> bool:
        """Say whether one more chunk may go."""
        return self.position < min(self.limit, self.acked + KEPT)

    def add(self, body: bytes | memoryview, mark: str = "") -> Chunk:
        """Give bytes their place; they are kept until they are acknowledged."""
        chunk = Chunk(self.position, body, mark)
        self.position = chunk.end
        self.unacked.append(chunk)
        return chunk

    def ack(self, position: int, limit: int) -> bool:
        """Take an acknowledgement, and say whether it told anything new; an old one changes nothing. Raises
        ProtocolError for one of bytes never sent."""
        if position > self.position:
            raise ProtocolError(f"acknowledges {position} where only {self.position} was sent")
        new = position > self.acked or limit > self.limit
        self.acked = max(self.acked, position)
        self.limit = max(self.limit, limit)
        while self.unacked and self.unacked[0].end <= position:
            self.unacked.popleft()
        return new


class Incoming:
    """The receiving end. `expected` is the position of what comes next, `used` what was handed on up to there."""

    __slots__ = ("_told", "expected", "used", "window")

    def __init__(self, window: int = WINDOW) -> None:
        self.window = window
        self.expected = self.used = 0
        self._told = (0, 0)

    def take(self, offset: int, size: int, mark: str) -> str:
        """Say what a chunk is: `next` (it is taken now), `old`, or `gap` when something before it is missing.

        Raises ProtocolError for one beyond the window. A chunk that began below the limit may end above it, and marks
        need no room. One without bytes and mark has no place, so no window would limit how many come.
        """
        if not (size or mark):
            raise ProtocolError("a chunk of nothing")
        if offset > self.used + self.window + CHUNK + len(MARKS):
            raise ProtocolError(f"bytes at {offset} are beyond the window at {self.used + self.window}")
        if offset != self.expected:
            return OLD if offset < self.expected else GAP
        self.expected += size + bool(mark)
        return NEXT

    def use(self, size: int) -> bool:
        """Note that so much was handed on; say whether the other side should be told now."""
        self.used += size
        return self.used - self._told[1] >= self.window // 4

    @property
    def untold(self) -> bool:
        """Say whether something arrived or was used that the other side does not know of."""
        return self._told != (self.expected, self.used)

    def ack(self) -> tuple[int, int]:
        """The acknowledgement that is right now: what has arrived, and where the other side must stop."""
        self._told = (self.expected, self.used)
        return self.expected, self.used + self.window


def chunk_headers(chunk: Chunk) -> dict[str, str]:
    """Headers of the message that carries a chunk."""
    headers = {h.VERSION: h.PROTOCOL, h.OFFSET: str(chunk.offset)}
    if chunk.mark:
        headers[h.MARK] = chunk.mark
    return headers


def ack_headers(position: int, limit: int, *, resend: bool = False) -> dict[str, str]:
    """Headers of an acknowledgement; with `resend` it asks for everything after `position` once more."""
    headers = {h.VERSION: h.PROTOCOL, h.ACK: f"{position} {limit}"}
    if resend:
        headers[h.CTL] = "resend"
    return headers


def parse_chunk(headers: Mapping[str, str]) -> tuple[int, str]:
    """Offset and mark of a chunk. Raises ProtocolError."""
    mark = headers.get(h.MARK, "")
    if mark not in MARKS:
        raise ProtocolError(f"unknown mark {mark[:20]!r}")
    return _position(headers[h.OFFSET]), mark


def parse_ack(headers: Mapping[str, str]) -> tuple[int, int]:
    """Position and limit of an acknowledgement. Raises ProtocolError."""
    position, _, limit = headers[h.ACK].partition(" ")
    return _position(position), _position(limit)


def _position(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ProtocolError(f"not a position: {text[:20]!r}")
    return int(text)
