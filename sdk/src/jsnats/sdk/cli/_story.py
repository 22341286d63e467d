"""The events of one exporter as a story: who held it, what was done meanwhile, why it ended."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._duration import duration_text
from .._events import StoredEvent
from ._event_words import ended_why, failure, one_line, stamp, words

_TOLD_BY_CALLS = frozenset({"power-on", "start"})
"""Markers that a call has left, which is told itself, or the agent's start."""


TOGETHER_S = 10.0
"""Calls within that time are told in one line."""

LONG_S = 1.0
"""A call that took so long has been told when it ran, too."""


@dataclass(slots=True)
class Deed:
    """Something that happened, or calls of one user in a row, by method and outcome. `who` is the user in words."""

    time: float
    text: str = ""
    user: str = ""
    who: str = ""
    calls: Counter[str] = field(default_factory=Counter)
    key: str = ""
    count: int = 1

    def tell(self, holder: str) -> str:
        """In words, within a lease of `holder`."""
        if not self.user:
            return self.text if self.count == 1 else f"{self.text} (x{self.count})"
        done = ", ".join(name if count == 1 else _times(name, count) for name, count in self.calls.items())
        return done if self.user == holder else f"{self.who or self.user}: {done}"


def _times(name: str, count: int) -> str:
    method, space, outcome = name.partition(" ")
    return f"{method} x{count}{space}{outcome}"


@dataclass(slots=True)
class Chapter:
    """A lease, or the time between two of them (`lease` is "" then). Times are Unix times, None for not seen.

    `heir` is to whom `holder` has given it.
    """

    begin: float | None
    lease: str = ""
    holder: str = ""
    heir: str = ""
    end: float | None = None
    waited: float = 0.0
    reason: str = ""
    by: str = ""
    closed: float | None = None
    teardown_s: float = 0.0
    deeds: list[Deed] = field(default_factory=list)

    @property
    def last(self) -> str:
        """Who has it at the end."""
        return self.heir or self.holder

    def as_map(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **{name: getattr(self, name) for name in ("lease", "holder", "begin", "end", "reason", "by")},
            "deeds": [{"time": deed.time, "user": deed.user, "text": deed.tell("")} for deed in self.deeds],
        }


class Story:
    """Takes events in their order; `chapters` is what they tell."""

    def __init__(self) -> None:
        self.chapters: list[Chapter] = []
        self._online = False
        self._running: dict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, event: StoredEvent) -> None:
        """The next event. One that is not as the contract has it is told as it is."""
        kind, _, what = event.type.partition(".")
        take = {"lease": self._lease, "call": self._call, "console": self._console}.get(kind, self._other)
        try:
            take(event, what)
        except (KeyError, TypeError, ValueError):
            self._tell(event, words(event))

    def end(self) -> None:
        """There are no more: what was begun and has not ended still runs."""
        for (user, place), begun in self._running.items():
            if begun:
                calls = Counter({f"{place} (still running)": len(begun)})
                self.chapters[-1].deeds.append(Deed(begun[0], user=user, calls=calls))

    # ------------------------------------------------------------------ leases

    def _lease(self, event: StoredEvent, what: str) -> None:
        data = event.data
        if what in ("granted", "ready"):
            self._begin(event)
            return
        chapter = self._chapter_of(data["id"], _text(data, "holder"))
        if what == "ended":
            chapter.end = event.stored
            chapter.reason, chapter.by = _text(data, "reason"), _text(data, "by")
            if chapter.begin is None and data.get("held"):
                chapter.begin = event.stored - float(data["held"])
        elif what == "torn-down":
            chapter.closed, chapter.teardown_s = event.stored, float(data.get("seconds") or 0)
            chapter.end, chapter.reason = chapter.end or event.stored, chapter.reason or _text(data, "reason")
            self._open(Chapter(event.stored))
        else:
            chapter.heir = _text(data, "to") if what == "transferred" else chapter.heir
            chapter.deeds.append(Deed(event.stored, words(event)))

    def _begin(self, event: StoredEvent) -> None:
        """Granted by the scheduler, made ready by the agent: either may be stored first."""
        lease = event.data["id"]
        if not any(chapter.lease == lease for chapter in self.chapters):
            self._open(Chapter(event.stored, lease, _text(event.data, "holder")))
        chapter = self._chapter_of(lease, "")
        chapter.waited = float(event.data.get("waited") or chapter.waited)

    def _open(self, chapter: Chapter) -> None:
        if self.chapters and not self.chapters[-1].lease and not self.chapters[-1].deeds:
            self.chapters.pop()
        self.chapters.append(chapter)

    def _chapter_of(self, lease: str, holder: str) -> Chapter:
        for chapter in reversed(self.chapters):
            if chapter.lease == lease:
                return chapter
        if len(self.chapters) == 1 and not self.chapters[0].lease:  # it began before the story does
            self.chapters[0].lease, self.chapters[0].holder, self.chapters[0].begin = lease, holder, None
        else:
            self._open(Chapter(None, lease, holder))
        return self.chapters[-1]

    # ------------------------------------------------------------------ deeds

    def _now(self, event: StoredEvent) -> Chapter:
        if not self.chapters:
            self.chapters.append(Chapter(event.stored))
        return self.chapters[-1]

    def _tell(self, event: StoredEvent, text: str, key: str = "") -> None:
        deeds = self._now(event).deeds
        text = one_line(f"{event.subject}: {text}") if event.subject else text
        if key and deeds and deeds[-1].key == key:
            deeds[-1].count += 1
            deeds[-1].text = text
        else:
            deeds.append(Deed(event.stored, text, key=key))

    def _call(self, event: StoredEvent, what: str) -> None:
        data = event.data
        user, place = _text(data, "user"), one_line(f"{event.subject}.{data['method']}".lstrip("."))
        count = int(data.get("count", 1))
        running, deeds = self._running[user, place], self._now(event).deeds
        if what == "started":
            running.append(event.stored)
            return
        if count == 1 and float(data.get("seconds") or 0) >= LONG_S:
            del running[:1]
        if not deeds or deeds[-1].user != user or event.stored - deeds[-1].time > TOGETHER_S:
            deeds.append(Deed(event.stored, user=user, who="a hook" if user == event.source else ""))
        deeds[-1].calls[one_line(place + failure(data))] += count

    def _console(self, event: StoredEvent, what: str) -> None:
        if what != "marker" or event.data.get("marker") not in _TOLD_BY_CALLS:
            self._tell(event, words(event))

    def _other(self, event: StoredEvent, what: str) -> None:
        if event.type == "hook.started":
            return
        if event.type == "exporter.offline":
            self._online = False
        if event.type == "exporter.online":
            again, self._online = self._online, True
            self._tell(event, "agent restarted: " * again + words(event))
            return
        self._tell(event, words(event), key=event.type if event.type.startswith("driver.") else "")


def _text(data: Mapping[str, Any], name: str) -> str:
    return one_line(str(data.get(name) or ""))


def tell(events: Iterable[StoredEvent]) -> list[Chapter]:
    """The story of those events."""
    story = Story()
    for event in events:
        story.add(event)
    story.end()
    return [chapter for chapter in story.chapters if chapter.lease or chapter.deeds]


def lines(chapters: list[Chapter]) -> Iterator[str]:
    """The story for people."""
    for chapter in chapters:
        if not chapter.lease:
            for deed in chapter.deeds:
                yield f"{stamp(deed.time)}  {deed.tell('')}" + (", without a lease" if deed.user else "")
            continue
        waited = f", after a wait of {duration_text(chapter.waited)}" if chapter.waited >= 1 else ""
        begin = "from before" if chapter.begin is None else stamp(chapter.begin)
        yield f"{begin:<19}  {chapter.holder} holds it{waited}"
        for deed in chapter.deeds:
            yield f"{stamp(deed.time)}    {deed.tell(chapter.holder)}"
        if chapter.end is None:
            yield f"{'now':<19}  {chapter.last} holds it"
        else:
            yield f"{stamp(chapter.closed or chapter.end)}  {_ending(chapter)}"


def _ending(chapter: Chapter) -> str:
    assert chapter.end is not None
    held = f" after {duration_text(chapter.end - chapter.begin)}" if chapter.begin is not None else ""
    clean = f"; torn down in {duration_text(chapter.teardown_s)}" if chapter.closed is not None else ""
    return f"the lease of {chapter.last} ended{held}{ended_why(chapter.reason, chapter.by)}{clean}"
