"""`jsnats shell` and `jsnats run`: exporters for as long as a shell or a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from ._lease_options import For, Note, NoWait, Priority, Selectors, Wait, asked_for
from ._options import ContextFile, Nats

if TYPE_CHECKING:
    from jsnats.sdk import Wanted


class _WithCommand(TyperCommand):
    """What stands behind `--` is the command to run, whatever it looks like."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the command off before the parser, which would mix it with our options; it is what `ctx.obj` is then."""
        end = args.index("--") if "--" in args else len(args)
        ctx.obj = args[end + 1 :]
        return super().parse_args(ctx, args[:end])

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Show it in the usage line too."""
        return [*super().collect_usage_pieces(ctx), "-- COMMAND..."]


SHELL = """Take exporters, one for each -l, and open a shell in which `j` talks to the first and `jsnats` to all.

They are given back when the shell ends, or 10 min after this machine was cut off.

Example: jsnats shell -l board=rpi4 --duration 2h
"""

RUN = """Take exporters, one for each -l, run a command with them, and exit with its code.

They are given back when it ends, or 30 s after this machine was cut off. If the lease ends before, the command gets
SIGTERM, 10 s later SIGKILL, and the exit code is 5.

Example: jsnats run -l board=rpi4 --wait 1h -- pytest tests/
"""

shell, run = typer.Typer(), typer.Typer()


@shell.command("shell", help=SHELL)
@run.command("run", cls=_WithCommand, help=RUN)
def _with_exporters(
    ctx: typer.Context,
    selector: Selectors,
    duration: For = None,
    priority: Priority = None,
    wait: Wait = None,
    no_wait: NoWait = False,
    note: Note = None,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    from jsnats.schemas import ConfigurationError
    from jsnats.sdk import SCRIPT_S, SHELL_S

    command: list[str] | None = ctx.obj
    if command == []:
        raise ConfigurationError("say what to run: jsnats run -l board=rpi4 -- pytest tests/")
    tether_s = SCRIPT_S if command else SHELL_S
    asked = asked_for(
        selector, tether_s=tether_s, duration=duration, priority=priority, wait=wait, no_wait=no_wait, note=note
    )
    raise typer.Exit(_work(asked, command or [], nats, context))


def _work(asked: Wanted, command: list[str], nats: str | None, context: Path | None) -> int:
    import asyncio

    from ._lease_session import lease_session

    return asyncio.run(lease_session(asked, command, nats, context))
