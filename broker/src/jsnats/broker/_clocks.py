"""Since when nobody was heard of, and what falls due next.

The time of a tether counts only while broker, scheduler and exporter see each other. So it is measured here, on the
own monotonic clock, from the last version of a record that was seen, and begins anew after any outage.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from math import inf

SLACK = 64


class Heard:
    """When each record was last seen to be written."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic
        self._at: dict[str, float] = {}

    def note(self, subject: str) -> None:
        """A new version of it was seen, or its time begins anew."""
        self._at[subject] = self.monotonic()

    def drop(self, subject: str) -> None:
        """It is gone."""
        self._at.pop(subject, None)

    def silent(self, subject: str) -> float:
        """For how many seconds nothing was heard."""
        now = self.monotonic()
        return now - self._at.get(subject, now)


class Agenda:
    """What is to be looked at, and when: one time for each subject, the last one that was given."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._heap: list[tuple[float, str]] = []
        self._when: dict[str, float] = {}

    def put(self, subject: str, left_s: float) -> None:
        """Look at it in that many seconds; never, if that is infinite."""
        if left_s == inf:
            self._when.pop(subject, None)
            return
        when = self._monotonic() + max(0.0, left_s)
        self._when[subject] = when
        heapq.heappush(self._heap, (when, subject))
        if len(self._heap) > 2 * len(self._when) + SLACK:  # times that hold no longer, some for the far future
            self._heap = [(when, subject) for subject, when in self._when.items()]
            heapq.heapify(self._heap)

    def drop(self, subject: str) -> None:
        """There is nothing to look at any more."""
        self._when.pop(subject, None)

    def due(self) -> list[str]:
        """What is to be looked at now; it is off the agenda with that."""
        now = self._monotonic()
        found: list[str] = []
        while self._heap and self._heap[0][0] <= now:
            when, subject = heapq.heappop(self._heap)
            if self._when.get(subject) == when:
                del self._when[subject]
                found.append(subject)
        return found

    def left_s(self) -> float:
        """Seconds until the next one; it may turn out that there is nothing to do then."""
        return max(0.0, self._heap[0][0] - self._monotonic()) if self._heap else inf
