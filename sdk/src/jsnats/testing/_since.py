"""What an exporter's consoles and drivers said since a moment, as text for people."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Iterable

from jsnats.schemas import CONSOLE, LOGS, BrokerError, LogRecord, ProtocolError, console_subject
from jsnats.sdk import Connection, ConsoleRecord, Lab, last_sequence, parse_record, read_logs, replay, shared_bridge

from ._report import CONSOLE as CONSOLE_SECTION, LOG as LOG_SECTION

Sayings = list[tuple[str, str]]
"""Sections of a report: name and text."""

LIMIT = 32_000
"""Characters of a section; the rest is in the lab."""
SETTLE_S = 0.1
"""Exporters gather output for 20 ms before they publish it: what was said just before a test failed comes after it."""
READ_S = 10.0

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[@-Z\\-_])")
_RUBBED_OUT = re.compile(r"[^\n\x08]\x08")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Since:
    """The moment at which it is made, in the streams of one exporter."""

    def __init__(self, lab: Lab, exporter: str) -> None:
        self._lab = lab
        self._exporter = exporter
        self._consoles, self._logs = shared_bridge().run(self._now())

    def again(self) -> Since:
        """The present moment; this one if the broker cannot be asked: better too much than nothing."""
        try:
            return Since(self._lab, self._exporter)
        except (BrokerError, TimeoutError):
            return self

    def sections(self) -> Sayings:
        """What was said since; the next call tells what is said after this one."""
        try:
            return shared_bridge().run(self._read())
        except (BrokerError, TimeoutError) as error:
            return [(f"{LOG_SECTION}{self._exporter}", f"not read: {str(error) or 'the broker does not answer'}")]

    @property
    def _connection(self) -> Connection:
        return self._lab.inner.connection

    async def _now(self) -> tuple[int, int]:
        async with asyncio.timeout(READ_S):
            return await asyncio.gather(
                last_sequence(self._connection, CONSOLE.name, f"jsnats.console.{self._exporter}.>"),
                last_sequence(self._connection, LOGS.name, f"jsnats.log.{self._exporter}.>"),
            )

    async def _read(self) -> Sayings:
        await asyncio.sleep(SETTLE_S)
        async with asyncio.timeout(READ_S):
            return [*await self._read_consoles(), *await self._read_logs()]

    async def _read_consoles(self) -> Sayings:
        said: dict[str, list[ConsoleRecord]] = defaultdict(list)
        begin = len(console_subject(self._exporter, "")) - 1
        subject = f"jsnats.console.{self._exporter}.>"
        async for sequence, message in replay(self._connection, CONSOLE.name, subject, after=self._consoles):
            self._consoles = sequence
            try:
                said[message.subject[begin:]].append(parse_record(sequence, message))
            except ProtocolError:
                continue
        return [self._console(path, records) for path, records in said.items()]

    def _console(self, path: str, records: list[ConsoleRecord]) -> tuple[str, str]:
        name = self._exporter if path == "=" else f"{self._exporter}.{path}"
        more = f"jsnats console {name} --since @{records[0].offset}"
        return f"{CONSOLE_SECTION}{name}", _end_of(console_text(records), more)

    async def _read_logs(self) -> Sayings:
        lines = []
        async for sequence, record in read_logs(self._connection, self._exporter, after=self._logs):
            self._logs = sequence
            lines.append(log_line(record))
        return (
            [(f"{LOG_SECTION}{self._exporter}", _end_of("\n".join(lines), f"jsnats logs {self._exporter}"))]
            if lines
            else []
        )


def console_text(records: Iterable[ConsoleRecord]) -> str:
    """Output as a terminal would have left it, without colours; markers on lines of their own."""
    # Joined before it is decoded: a character may lie across two records.
    parts = (f"\n--- {each.text} ---\n".encode() if each.mark else each.data for each in records)
    return plain(b"".join(parts).decode(errors="replace")).lstrip("\n")


def plain(text: str) -> str:
    """Text without the control characters that a terminal acts on; any other shows as its code."""
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    while _RUBBED_OUT.search(text):
        text = _RUBBED_OUT.sub("", text)
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def log_line(record: LogRecord) -> str:
    """One line of log."""
    clock = time.strftime("%H:%M:%S", time.localtime(record.time))
    place = f"{record.path}: " if record.path else ""
    return f"{clock}.{int(record.time % 1 * 1000):03} {record.level:<7} {place}{plain(record.message).rstrip()}"


def _end_of(text: str, more: str) -> str:
    if len(text) <= LIMIT:
        return text
    return f"... {len(text) - LIMIT} characters before this: {more}\n{text[-LIMIT:]}"
