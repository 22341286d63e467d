"""`jsnats call` and `jsnats stream` for Typer: to be listed, completed, and run behind options of `jsnats` itself."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ._call import run_call, run_stream
from ._complete import complete_exporter_method

Raw = Annotated[list[str], typer.Argument(metavar="METHOD [ARGUMENT]...", autocompletion=complete_exporter_method)]


class _RawCommand(TyperCommand):
    """Hands its words on as they are."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse only to complete."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        ctx.params = {"words": list(args)}
        return []


call = typer.Typer()
stream = typer.Typer()
_OPEN = {"ignore_unknown_options": True}


@call.command("call", cls=_RawCommand, context_settings=_OPEN)
def _call(words: Raw) -> None:
    run_call(words)


@stream.command("stream", cls=_RawCommand, context_settings=_OPEN)
def _stream(words: Raw) -> None:
    run_stream(words)
