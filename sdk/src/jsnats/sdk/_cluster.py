"""What is different where a lab has several servers: one may be away, silent or cut off while the others serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

ELECTION_S = 30.0
"""In a cluster, how long JetStream may be without a leader. nats-server 2.15 elects one 4 to 9 s after the last was
heard; two elections in a row, and a machine that is busy, take longer."""
NOBODY_S = 5.0
"""In a cluster, how long "no responders" does not count: whoever was at a server that died comes back through another
in a moment, and through one that was silent, in seconds."""
CATCH_UP_S = 10.0
"""How long a server may lack a record that others have; a hub that has another record of the same site."""
ATTEMPT_S, MAX_ATTEMPT_S = 2.0, 5.0
"""In a cluster, after how long a request that may be repeated is sent again, at first and at most. One that may take
minutes is not repeated so soon."""
MOVE_S = (0.2, 10.0)
"""How soon a server is left that does not see most of the others, the first time and at most."""

PINGS = (5, 2)
CLUSTER_PINGS = (1, 4)
"""Seconds between PINGs, and after how many of them without a byte from the server it is left. A lab's only server is
waited for; of several, one that is silent is left before presence, of 10 s, has expired."""


class Together:
    """How many of the lab's `count` servers see each other, ours included, as ours says.

    Everybody in `told` is called when that changes: what was at a server that is gone is gone too. `move` is called
    while it is half of them or less, more and more seldom.
    """

    def __init__(self, count: int, move: Callable[[], None]) -> None:
        self.told: list[Callable[[], None]] = []
        self._count = count
        self._move = move
        self._seen = 0
        self._wait_s = MOVE_S[0]
        self._moving: asyncio.TimerHandle | None = None

    def tell(self, seen: int) -> None:
        """The server says so: on each connection, and whenever it changes."""
        loop = asyncio.get_running_loop()
        self.close()
        if 2 * seen > self._count:
            self._wait_s = MOVE_S[0]
        elif self._count > 1:
            self._moving = loop.call_later(self._wait_s, self._move)
            self._wait_s = min(2 * self._wait_s, MOVE_S[1])
        if seen != self._seen:
            self._seen = seen
            for told in list(self.told):
                loop.call_soon(told)

    def close(self) -> None:
        """Move no more."""
        if self._moving:
            self._moving.cancel()
            self._moving = None
