"""`j serial console`: for click, beside the methods that the console's driver exports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._commands import methods_command
from ._console_run import ConsoleOptions, choose_since, run_console, seconds

if TYPE_CHECKING:
    from jsnats.client import ConsoleClient


def console_command(client: ConsoleClient) -> click.Group:
    """A group with `console` and the exported methods."""
    group = methods_command(client)
    group.commands.pop("connect", None)  # `console` is it

    @group.command()
    @click.option("--watch", "-w", is_flag=True, help="Only read; any number may.")
    @click.option("--since", metavar="WHEN", help="Begin in the record: 10m, 03:14, a date, @4711 (offset), start.")
    @click.option("--from-boot", is_flag=True, help="Begin at the last power-on.")
    @click.option("--from-mark", metavar="TEXT", help="Begin at the last marker with that text.")
    @click.option("--log", type=click.Path(path_type=Path), metavar="FILE", help="Append what is shown to a file.")
    @click.option("--search", metavar="REGEX", help="Show the recorded lines that match.")
    @click.option("--no-follow", is_flag=True, help="End after what is recorded.")
    @click.option("--until", metavar="REGEX", help="With a pipe or --watch: end when the console says that.")
    @click.option("--timeout", metavar="SECONDS", help="With --until: fail after (30). Else: read on for (1).")
    @click.option("--json", "as_json", is_flag=True, help="Print each record as JSON.")
    @click.option("--timestamps", "-t", is_flag=True, help="Show lines with their time.")
    def console(since: str | None, from_boot: bool, from_mark: str | None, no_follow: bool, **rest: object) -> None:
        """Talk to the console, or read its record. Ctrl-] q quits."""
        timeout = rest.pop("timeout")
        options = ConsoleOptions(
            since=choose_since(since, from_boot, from_mark),
            follow=not no_follow,
            timeout_s=seconds(str(timeout) if timeout is not None else None),
            **rest,  # type: ignore[arg-type]
        )
        run_console(client, options)

    return group
