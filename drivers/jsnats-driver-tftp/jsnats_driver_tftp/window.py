"""Which blocks a client has, and which to send it: no I/O.

Blocks count from 1 without end here, and on the wire by 16 bits: an acknowledgement is of the next block that its
number fits. Block 0 is the server's answer to options.
"""

from __future__ import annotations


class Window:
    """Of `size` blocks that may be under way, behind those that the client has."""

    def __init__(self, size: int, *, first: int) -> None:
        self.acked = first - 1
        self.sent = first - 1
        self._size = size

    @property
    def room(self) -> int:
        """How many blocks behind `acked` may be under way; nothing follows block 0 before the client has it."""
        return self._size if self.acked >= 0 else 1

    def take(self, number: int) -> int | None:
        """An acknowledgement: how many more blocks the client has by it. What it lacks is to be sent again then, as one
        that got a window in full acknowledges its last block.

        0 is the repetition of the last one, None one that is older, or of what was never sent.
        """
        more = (number - self.acked) & 0xFFFF
        if more > self.sent - self.acked:
            return None
        if more:
            self.acked += more
            self.back()
        return more

    def back(self) -> None:
        """Whatever the client does not have is to be sent again."""
        self.sent = self.acked

    def due(self, ready: int) -> range:
        """Those to send now, as indexes behind `acked`, if `ready` blocks are at hand; they count as sent."""
        begin, self.sent = self.sent - self.acked, self.acked + ready
        return range(begin, ready)
