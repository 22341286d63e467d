"""`jsnats console`: for Typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._complete import complete_console
from ._options import ContextFile, Nats

Name = Annotated[
    str,
    typer.Argument(
        metavar="CONSOLE", help="As bench-1.dut.serial, or bench-1 if it has only one.", autocompletion=complete_console
    ),
]


def console(
    console: Name,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Only read; any number may.")] = False,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="Begin in the record: 10m, 03:14, a date, @4711 (offset), start."),
    ] = None,
    from_boot: Annotated[bool, typer.Option("--from-boot", help="Begin at the last power-on.")] = False,
    from_mark: Annotated[
        str | None, typer.Option("--from-mark", metavar="TEXT", help="Begin at the last marker with that text.")
    ] = None,
    log: Annotated[Path | None, typer.Option("--log", metavar="FILE", help="Append what is shown to a file.")] = None,
    search: Annotated[
        str | None, typer.Option("--search", metavar="REGEX", help="Show the recorded lines that match.")
    ] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="End after what is recorded.")] = False,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="REGEX", help="With a pipe or --watch: end when the console says that."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            help="With --until: fail after (30). Else: read on after the pipe's end (1).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each record as JSON.")] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="Show lines with their time.")] = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Talk to a console, or read its record.

    In a terminal every key goes to the device; Ctrl-] q quits. With a pipe, it is sent what comes by it.

    Example: jsnats console bench-1.dut.serial --from-boot
    """
    from ._console_run import ConsoleOptions, choose_since, find_console, run_console, seconds
    from ._target import lab_of

    options = ConsoleOptions(
        watch=watch,
        since=choose_since(since, from_boot, from_mark),
        follow=not no_follow,
        log=log,
        search=search,
        until=until,
        timeout_s=seconds(timeout),
        as_json=as_json,
        timestamps=timestamps,
    )
    with lab_of(nats, context) as lab:
        assert lab.inner.bridge
        run_console(lab.inner.bridge.run(find_console(lab.inner, console)), options)
