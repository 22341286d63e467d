"""How far a transfer is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Told the bytes that are done and the bytes in all; called from the event loop."""


class Transfer:
    """Counts what was moved, and tells."""

    def __init__(self, size: int, tell: Progress | None) -> None:
        self.moved = 0
        self._size = size
        self._done = 0
        self._tell = tell or (lambda done, total: None)

    def begin(self, done: int) -> None:
        """So much need not be moved."""
        self._done = max(0, done)
        self._tell(self._done, self._size)

    def move(self, count: int) -> None:
        """So much more was moved."""
        self.moved += count
        self._done += count
        self._tell(self._done, self._size)

    def finish(self) -> None:
        """Everything is done."""
        self._tell(self._size, self._size)
