"""One stored message of a console: what the device said, or a marker beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from jsnats.schemas import ProtocolError, decode_json, headers as h

from ._nats import Msg

LOST = "lost"
"""Kind of a marker that the reader itself puts in: the store no longer has what was there."""
BOOT = "power-on"
OFF_RECORD = "off-record"
_EXPLAIN = frozenset({"gap", OFF_RECORD, "on-record"})
"""Markers that say why offsets jump."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleRecord:
    """Output, or a marker: then `mark` is its kind, `text` its line for people, and `data` is empty.

    `offset` is the position of the first byte in all that the console ever said, `time` when it was read (Unix time in
    s, of the exporter's clock), `sequence` that of the stored message, by which a reader goes on.
    """

    sequence: int
    offset: int
    time: float
    data: bytes = b""
    mark: str = ""
    text: str = ""

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + len(self.data)

    def from_offset(self, offset: int) -> ConsoleRecord:
        """What it holds from `offset` on; a marker is left as it is."""
        if self.mark or offset <= self.offset:
            return self
        return replace(self, data=self.data[offset - self.offset :], offset=min(offset, self.end))


def parse_record(sequence: int, message: Msg) -> ConsoleRecord:
    """Read a stored or republished message. Raises ProtocolError for one that is no console record."""
    headers = message.headers or {}
    try:
        offset, time = int(headers[h.OFFSET]), int(headers.get(h.TIME, "0")) / 1000
    except (KeyError, ValueError, OverflowError) as error:
        raise ProtocolError("a console record without offset or time") from error
    if not 0 <= offset < 1 << 63:
        raise ProtocolError(f"a console record at {str(offset)[:30]}")
    mark = headers.get(h.MARK, "")
    if not mark:
        return ConsoleRecord(sequence=sequence, offset=offset, time=time, data=message.data)
    return ConsoleRecord(sequence=sequence, offset=offset, time=time, mark=mark, text=_text(mark, message.data))


def _text(mark: str, body: bytes) -> str:
    try:
        said = decode_json(body) if body else None
    except ProtocolError:
        said = None
    text = said.get("text") if isinstance(said, dict) else None
    return text if isinstance(text, str) and text else mark


class Continuity:
    """Sees bytes that are missing between two records, and puts a marker there unless the exporter has said why."""

    def __init__(self, offset: int | None = None) -> None:
        self._next = offset
        self._explained = False

    def check(self, record: ConsoleRecord) -> Iterator[ConsoleRecord]:
        """Yield `record`, and before it a marker for what is missing."""
        if record.mark:
            self._explained = self._explained or record.mark in _EXPLAIN
            yield record
            return
        expected, explained = self._next, self._explained
        self._next, self._explained = record.end, False
        if expected is not None and record.offset > expected and not explained:
            text = f"{record.offset - expected} bytes are not stored any more"
            yield replace(record, offset=expected, data=b"", mark=LOST, text=text)
        yield record
