"""How a console's records are shown: as they are, as lines with their time, or as JSON."""

from __future__ import annotations

import asyncio
import os
import queue
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from jsnats.schemas import ConfigurationError, encode_json
from jsnats.sdk import ConsoleRecord

LONGEST = 16 << 10
"""A line without an end is cut there."""

_CONTROL = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    rb"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles, links
    rb"|\x1b[ -/]*[0-~]"
    rb"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
_C1 = re.compile("[\x80-\x9f]")


def plain(data: bytes) -> str:
    """Text that does nothing to a terminal but to stand there."""
    text = _CONTROL.sub(b"", data).decode("utf-8", "replace").strip("\r").replace("\r", " ")
    return _C1.sub("", text)


class Lines:
    """Cuts records into lines: each a record with the offset and time of its first byte and no line end."""

    def __init__(self) -> None:
        self._open: ConsoleRecord | None = None

    @property
    def open(self) -> bool:
        """Whether a line has begun and not ended."""
        return self._open is not None

    def add(self, record: ConsoleRecord) -> Iterator[ConsoleRecord]:
        """Yield the lines that are complete; a marker completes the one before it and is one itself."""
        if record.mark:
            yield from self.flush()
            yield record
            return
        *whole, rest = record.data.split(b"\n")
        offset = record.offset
        for data in whole:
            yield self._line(replace(record, data=data, offset=offset))
            self._open = None
            offset += len(data) + 1
        if rest:
            self._open = self._line(replace(record, data=rest, offset=offset))
            if len(self._open.data) > LONGEST:
                yield from self.flush()

    def _line(self, record: ConsoleRecord) -> ConsoleRecord:
        return replace(self._open, data=self._open.data + record.data) if self._open else record

    def flush(self) -> Iterator[ConsoleRecord]:
        """Yield the line that has not ended."""
        if self._open:
            yield self._open
        self._open = None


def mark_line(record: ConsoleRecord) -> str:
    """A marker as it stands between lines."""
    return f"--- {record.text} ---"


def stamp(seconds: float) -> str:
    """A time of a record, local, with milliseconds."""
    return f"{datetime.fromtimestamp(min(max(seconds, 0.0), 4e9)):%Y-%m-%d %H:%M:%S.%f}"[:-3]


def as_line(record: ConsoleRecord, *, with_time: bool) -> bytes:
    """A line or a marker, to be read."""
    text = plain(mark_line(record).encode()) if record.mark else plain(record.data)
    return (f"{stamp(record.time)}  {text}\n" if with_time else f"{text}\n").encode("utf-8", "replace")


def as_json(record: ConsoleRecord) -> bytes:
    """A record as a line of JSON; `data` (base64) beside `text` where that does not say it exactly."""
    said: dict[str, Any] = {"offset": record.offset, "time": record.time}
    if record.mark:
        said |= {"mark": record.mark, "text": record.text}
    else:
        text = record.data.decode("utf-8", "replace")
        said |= {"text": text} if text.encode() == record.data else {"text": text, "data": record.data}
    return encode_json(said) + b"\n"


class Raw:
    """Bytes as they are, with markers on lines of their own. `newline` is that of the terminal's mode."""

    def __init__(self, newline: bytes = b"\n") -> None:
        self._newline = newline
        self._fresh = True

    def __call__(self, record: ConsoleRecord) -> bytes:
        """What to write for a record."""
        return self.note(mark_line(record)) if record.mark else self._said(record.data)

    def note(self, text: str) -> bytes:
        """A line of our own between what the device says."""
        before = b"" if self._fresh else self._newline
        self._fresh = True
        return before + plain(text.encode("utf-8", "replace")).encode() + self._newline

    def _said(self, data: bytes) -> bytes:
        self._fresh = data.endswith(b"\n") if data else self._fresh
        return data


@dataclass(slots=True)
class _Job:
    data: bytes
    done: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop

    def settle(self, error: OSError | None) -> None:
        """Tell the waiting coroutine, unless it or its loop has gone."""
        if self.done.done():
            return
        if error:
            self.done.set_exception(error)
        else:
            self.done.set_result(None)


class Output:
    """Writes to a file descriptor from a thread: a terminal that is stopped must not stop the connection.

    What is written also goes to the log, as it is.
    """

    def __init__(self, descriptor: int, log: Path | None = None) -> None:
        self._descriptor = descriptor
        self._log = _open_log(log) if log else None
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="jsnats-output", daemon=True).start()

    async def write(self, data: bytes) -> None:
        """Write all of it. Raises OSError."""
        if data:
            loop = asyncio.get_running_loop()
            job = _Job(data, loop.create_future(), loop)
            self._jobs.put(job)
            await job.done

    def log(self, data: bytes) -> None:
        """Write to the log, if there is one. Raises OSError."""
        if self._log:
            self._log.write(data)

    def _serve(self) -> None:
        while True:
            job = self._jobs.get()
            error = None
            try:
                _write_all(self._descriptor, job.data)
            except OSError as failed:
                error = failed
            if not job.loop.is_closed():
                job.loop.call_soon_threadsafe(job.settle, error)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _open_log(path: Path) -> BinaryIO:
    try:
        return path.open("ab", buffering=0)
    except OSError as error:
        raise ConfigurationError(f"cannot write the log {path}: {error.strerror}") from error
