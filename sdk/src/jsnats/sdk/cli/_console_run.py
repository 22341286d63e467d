"""What `jsnats console` and `j ... console` do with a console, by their options and by what they are connected to."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jsnats.client import ConsoleClient
from jsnats.schemas import ConfigurationError, InterfaceRecord, JsnatsError, MethodNotFound
from jsnats.sdk import AsyncLab, ConsoleRecord

from ._guard import BROKEN_PIPE

if TYPE_CHECKING:
    from jsnats.client._expect import Patterns

    from ._console_output import Output
    from ._console_until import Until

PARTIAL_S = 0.5
"""A line that has not ended, a prompt, is shown after such a silence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleOptions:
    """The options of the command; `since` as in `jsnats.sdk.Start`."""

    watch: bool = False
    since: str | None = None
    follow: bool = True
    log: Path | None = None
    search: str | None = None
    until: str | None = None
    timeout_s: float | None = None
    as_json: bool = False
    timestamps: bool = False

    @property
    def reads_only(self) -> bool:
        """Whether nothing is to be sent."""
        return self.watch or not self.follow or self.search is not None or self.as_json or self.timestamps


def choose_since(since: str | None, from_boot: bool, from_mark: str | None) -> str | None:
    """The one place to begin at. Raises ConfigurationError for two."""
    given = [each for each in (since, "boot" if from_boot else None, from_mark and f"mark:{from_mark}") if each]
    if len(given) > 1:
        raise ConfigurationError("give one of --since, --from-boot and --from-mark")
    return given[0] if given else None


def seconds(text: str | None) -> float | None:
    """The value of --timeout. Raises ConfigurationError."""
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        raise ConfigurationError(f"--timeout {text!r} is no number of seconds") from None


def run_console(client: ConsoleClient, options: ConsoleOptions) -> None:
    """Connect this process's terminal or pipe with a console, or show its record."""
    from ._console_output import Output

    if options.until is not None and not options.watch and (options.reads_only or sys.stdin.isatty()):
        raise ConfigurationError(
            "--until needs a pipe (echo version | jsnats console ... --until 'v[0-9]+'), or --watch to send nothing"
        )
    if options.until is not None and not options.follow:
        raise ConfigurationError("--until waits for what comes: leave out --no-follow, or use --search")
    sys.stdout.flush()
    output = Output(sys.stdout.fileno(), options.log)
    try:
        if options.reads_only:
            client._channel.run(view(client, options, output))
        else:
            _attach(client, options, output, sys.stdin.fileno())
    except BrokenPipeError:
        raise SystemExit(BROKEN_PIPE) from None  # Typer would make it 1


def _attach(client: ConsoleClient, options: ConsoleOptions, output: Output, keyboard: int) -> None:
    from ._console_attach import Attachment, converse, interact
    from ._console_tty import raw_terminal

    run, is_terminal = client._channel.run, os.isatty(keyboard)
    attachment = Attachment(client, options, output, b"\r\n" if is_terminal else b"\n")
    try:
        run(attachment.open())
        if is_terminal:
            with raw_terminal(keyboard):
                run(interact(attachment, keyboard))
        else:
            run(converse(attachment, keyboard))
    finally:
        run(attachment.close())


# ---------------------------------------------------------------------- showing


async def view(client: ConsoleClient, options: ConsoleOptions, output: Output) -> None:
    """Show the record, then, unless told not to, what comes. Raises OSError when nobody reads it any more."""
    if not options.follow or (options.search is not None and not options.watch):
        async with aclosing(client.reader.replay(options.since or "start")) as records:
            shown = _View(options, output)
            async for record in records:
                await shown.show([record])
            await shown.flush()
        return
    await _check_recorded(client)
    if options.until is None:
        await _follow(client, options, _View(options, output), None)
        return
    from ._console_until import Until

    until = Until(options.until, options.timeout_s)
    async with until.in_time(client.reader.name):
        await _follow(client, options, _View(options, output), until)


async def _follow(client: ConsoleClient, options: ConsoleOptions, shown: _View, until: Until | None) -> None:
    from jsnats.client._feed import Feed

    feed = await Feed.open(client.reader, options.since, _tell_link)
    taking = asyncio.ensure_future(feed.take())
    try:
        while True:
            done, _ = await asyncio.wait({taking}, timeout=PARTIAL_S if shown.partial else None)
            if not done:
                await shown.flush()
                continue
            records = taking.result()
            taking = asyncio.ensure_future(feed.take())
            await shown.show(records)
            if until and until.met(records):
                await shown.flush()
                return
    finally:
        taking.cancel()
        await feed.close()


def _tell_link(there: bool) -> None:
    print(
        "--- the broker is back ---" if there else "--- lost the broker, reconnecting ---", file=sys.stderr, flush=True
    )


async def _check_recorded(client: ConsoleClient) -> None:
    """Nobody can watch what is not recorded, and would wait for ever. An exporter that is away cannot say it."""
    try:
        status = await client.options(timeout_s=3).call_async("status")
    except JsnatsError:
        return
    if isinstance(status, dict) and not status.get("subject", True):
        raise ConfigurationError(
            f"{client.reader.name} is not recorded (`record: false`): only who writes sees it, so leave out --watch"
        )


class _View:
    """Writes records as the options say."""

    def __init__(self, options: ConsoleOptions, output: Output) -> None:
        from ._console_output import Lines, Raw, as_json, as_line, plain

        self._options = options
        self._output = output
        self._patterns = _patterns(options.search)
        self._raw, self._logged, self._lines = Raw(), Raw(), Lines()
        self._plain = plain
        self._by_line = options.timestamps or self._patterns is not None
        self._format = as_json if options.as_json else lambda line: as_line(line, with_time=options.timestamps)

    @property
    def partial(self) -> bool:
        """Whether a line has begun and not ended."""
        return self._lines.open

    async def show(self, records: list[ConsoleRecord]) -> None:
        """Show what has come."""
        data: list[bytes] = []
        for record in records:
            self._output.log(self._logged(record))
            if self._by_line:
                data += [self._format(line) for line in self._lines.add(record) if self._wanted(line)]
            else:
                data.append(self._format(record) if self._options.as_json else self._raw(record))
        await self._output.write(b"".join(data))

    async def flush(self) -> None:
        """Show the line that has not ended."""
        data = [self._format(line) for line in self._lines.flush() if self._wanted(line)]
        await self._output.write(b"".join(data))

    def _wanted(self, line: ConsoleRecord) -> bool:
        """Search in what is shown: without line ends, colours and the like."""
        return self._patterns is None or (
            not line.mark and self._patterns.first(self._plain(line.data).encode()) is not None
        )


def _patterns(search: str | None) -> Patterns | None:
    if search is None:
        return None
    from jsnats.client._expect import Patterns

    return Patterns(search)


# ---------------------------------------------------------------------- finding


def is_console(interface: InterfaceRecord) -> bool:
    """Say whether a driver with that interface has a console, whatever its class."""
    methods = interface.methods
    return "mark" in methods and "off_record" in methods and "connect" in methods and methods["connect"].kind == "bytes"


async def console_paths(lab: AsyncLab, exporter: str) -> list[str]:
    """The full names of an exporter's consoles. Raises MethodNotFound for an unknown exporter."""
    tree = await lab.tree(exporter)
    return [
        f"{exporter}.{node.path}" if node.path else exporter
        for node in tree.nodes
        if is_console(await lab.interface(node.interface))
    ]


async def find_console(lab: AsyncLab, name: str) -> ConsoleClient:
    """The console of that name; that of an exporter alone, if it has only one. Raises MethodNotFound with the names."""
    exporter = name.partition(".")[0]
    known = await console_paths(lab, exporter)
    if name == exporter and len(known) == 1:
        name = known[0]
    if name not in known:
        there = f"its consoles: {', '.join(known)}" if known else "it has none"
        raise MethodNotFound(f"{name} is no console of {exporter}; {there}")
    path = name.partition(".")[2]
    tree, channel = await lab.open(exporter)
    node = next(node for node in tree.nodes if node.path == path)
    return ConsoleClient(channel, node)
