"""Patterns in what a console says, however it was cut into messages."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jsnats.schemas import ConfigurationError, JsnatsError

if TYPE_CHECKING:
    from jsnats.sdk import ConsoleRecord

Pattern = str | bytes | re.Pattern[str] | re.Pattern[bytes]

WINDOW = 64 << 10
"""A match is not longer than that."""


class ConsoleTimeout(JsnatsError, TimeoutError):
    """The pattern did not come in time; the text shows what did."""


@dataclass(frozen=True, slots=True)
class ConsoleMatch:
    """What was found: `index` in the list of patterns, `offset` and `time` (Unix, s) of its first byte, and `before`,
    what stood before it since the last match. Texts are `str` if the pattern was.
    """

    index: int
    offset: int
    time: float
    before: Any
    match: re.Match[bytes]
    as_text: bool

    def group(self, *groups: int | str) -> Any:
        """As that of `re.Match`."""
        return self._said(self.match.group(*groups))

    def groups(self) -> tuple[Any, ...]:
        """As that of `re.Match`."""
        return tuple(self._said(each) for each in self.match.groups())

    def groupdict(self) -> dict[str, Any]:
        """As that of `re.Match`."""
        return {name: self._said(each) for name, each in self.match.groupdict().items()}

    def __getitem__(self, group: int | str) -> Any:
        return self.group(group)

    def _said(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._said(each) for each in value)
        return said(value) if self.as_text and value is not None else value


class Patterns:
    """One pattern or several. Text is looked for as UTF-8. Raises ConfigurationError for one that is no pattern."""

    def __init__(self, wanted: Pattern | Sequence[Pattern]) -> None:
        each = [wanted] if isinstance(wanted, (str, bytes, re.Pattern)) else list(wanted)
        self._patterns = [(_compile(pattern), _is_text(pattern)) for pattern in each]
        self.said = " or ".join(
            repr(pattern.pattern if isinstance(pattern, re.Pattern) else pattern) for pattern in each
        )

    def first(self, text: bytes, start: int = 0) -> tuple[int, re.Match[bytes], bool] | None:
        """The match that begins first; of several that begin there, that of the first pattern."""
        found = None
        for index, (pattern, as_text) in enumerate(self._patterns):
            match = pattern.search(text, start)
            if match and (found is None or match.start() < found[1].start()):
                found = index, match, as_text
        return found


def _is_text(pattern: Pattern) -> bool:
    return isinstance(_source(pattern), str)


def _source(pattern: Pattern) -> str | bytes:
    return pattern.pattern if isinstance(pattern, re.Pattern) else pattern


def _compile(pattern: Pattern) -> re.Pattern[bytes]:
    flags = 0
    if isinstance(pattern, re.Pattern):
        flags, pattern = pattern.flags & ~re.UNICODE, pattern.pattern
    try:
        return re.compile(pattern.encode() if isinstance(pattern, str) else pattern, flags)
    except re.error as error:
        raise ConfigurationError(f"{pattern!r} is no regular expression: {error}") from error


class Text:
    """The last part of what the console said, with a cursor behind what was matched."""

    def __init__(self) -> None:
        self._text = b""
        self._new: list[bytes] = []
        self._length = 0
        self._origins: list[tuple[int, int, float]] = []
        self._dropped = 0
        self._cursor = 0
        self.closed = ""

    @property
    def tail(self) -> bytes:
        """The last of it."""
        return self._text[-400:]

    @property
    def waiting(self) -> int:
        """Bytes that came since it was last searched."""
        return self._length - len(self._text)

    def add(self, record: ConsoleRecord) -> None:
        """What came; markers are not part of the text."""
        if record.mark:
            self.closed = record.text if record.mark == "closed" else "" if record.mark == "open" else self.closed
            return
        self._origins.append((self._dropped + self._length, record.offset, record.time))
        self._new.append(record.data)
        self._length += len(record.data)

    def find(self, patterns: Patterns, *, final: bool = True) -> ConsoleMatch | None:
        """The next match, and put the cursor behind it. Without `final`, not one that more text could make longer."""
        if self._new:
            self._text, self._new = b"".join((self._text, *self._new)), []
        found = patterns.first(self._text, self._cursor)
        if found is None or (not final and found[1].end() == self._length):
            self._forget(max(self._cursor, self._length - WINDOW))
            return None
        index, match, as_text = found
        offset, time = self._origin(self._dropped + match.start())
        before = self._text[self._cursor : match.start()]
        self._cursor = max(match.end(), match.start() + 1)  # an empty match is not found twice
        return ConsoleMatch(index, offset, time, said(before) if as_text else before, match, as_text)

    def _origin(self, position: int) -> tuple[int, float]:
        """Offset and time of the byte at a position, counted from the first ever added."""
        place = bisect_right(self._origins, position, key=lambda each: each[0]) - 1
        begin, offset, time = self._origins[max(place, 0)]
        return offset + position - begin, time

    def _forget(self, count: int) -> None:
        count = min(count, self._length)
        if count < WINDOW:
            return  # dropping a few bytes moves all the others
        self._text = self._text[count:]
        self._length -= count
        self._dropped += count
        self._cursor = max(0, self._cursor - count)
        del self._origins[: max(0, bisect_right(self._origins, self._dropped, key=lambda each: each[0]) - 1)]


def said(data: bytes) -> str:
    """Bytes as text, whatever they are."""
    return data.decode("utf-8", "replace")
