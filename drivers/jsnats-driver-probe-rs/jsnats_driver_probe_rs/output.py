"""What probe-rs prints, understood. These are the words of probe-rs-tools 0.24 to 0.32."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from .common import Width

Progress = Callable[[int, str], None]
"""Told the percents that are done, and of what."""

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_BAR = re.compile(r"(Erasing|Reading flash|Programming|Verifying)\b(?: \d+\b)?(?:\W*\b(\d{1,3})%)?")
_BEGIN = re.compile(r"(Error|error|Available Probes):")
_UNREACHABLE = re.compile(
    r"[Nn]o connected probes|[Pp]robe not found|probes were found|Failed to open (the debug )?probe|already in use"
    r"|Connecting to the chip was unsuccessful|Failed to attach|Failed to parse probe index"
)
_LAST = 6
"""Lines of stderr in an error where none of them begins with `Error:`."""
_LONGEST = 1500


class Told:
    """What probe-rs has told on stderr: its progress, and the last lines that are none."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self._lines: deque[str] = deque(maxlen=40)
        self._at = (-1, "")

    def add(self, text: str) -> None:
        """Take some whole lines."""
        for each in _ESCAPES.sub("", text).splitlines():
            line = each.strip()
            if bar := _BAR.match(line):
                self._report(int(bar[2] or 0), bar[1])
            elif line:
                self._lines.append(line)

    def _report(self, percent: int, what: str) -> None:
        # The bars are drawn ten times a second, moved or not.
        if self._progress and (percent, what) != self._at:
            self._at = (percent, what)
            self._progress(percent, what)

    def reason(self) -> str:
        """The error in one line, or the last lines if there is none that says it is one."""
        lines = list(self._lines)
        begin = next((n for n, line in enumerate(lines) if _BEGIN.match(line)), max(0, len(lines) - _LAST))
        return " ".join(lines[begin:])[:_LONGEST]


def failure(command: str, code: int, reason: str) -> OSError:
    """The error for an exit code other than 0: ConnectionError where probe or target cannot be reached."""
    kind = ConnectionError if _UNREACHABLE.search(reason) else OSError
    return kind(f"probe-rs {command} failed (exit code {code}): {reason or 'it said nothing'}")


def parse_words(text: str, width: Width) -> list[int]:
    """The words that `probe-rs read` has printed: hexadecimal, newer ones with the address before each line."""
    word = f"[0-9a-fA-F]{{{width // 4}}}"
    line = re.compile(rf"(?:[0-9a-fA-F]{{8,16}}: )?({word}(?: {word})*) *")
    found = [match[1] for each in text.splitlines() if (match := line.fullmatch(each))]
    return [int(each, 16) for part in found for each in part.split()]


def found_nothing(text: str) -> bool:
    """Say whether `probe-rs info` has failed over each protocol: older ones end with 0 all the same."""
    tried = text.count("Probing target via")
    return 0 < tried <= text.count("Error while probing target")
