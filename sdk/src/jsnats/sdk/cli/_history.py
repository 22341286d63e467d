"""`jsnats history`: the story of one exporter."""

from __future__ import annotations

from typing import Annotated

import typer

from ._complete import complete_exporter
from ._options import ContextFile, Json, Nats


def history(
    exporter: Annotated[str, typer.Argument(metavar="EXPORTER", autocompletion=complete_exporter)],
    since: Annotated[str, typer.Option("--since", metavar="WHEN", help="Begin there: 2h, 1d, 03:14, a date.")] = "1d",
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Tell what happened to an exporter: who held it and why that ended, what was done, what consoles and hooks said.

    Example: jsnats history bench-1 --since 2h
    """
    from ._output import print_json
    from ._story import lines, tell
    from ._target import lab_of

    with lab_of(nats, context) as lab:
        chapters = tell(lab.events(exporter=exporter, since=since))
        if not chapters and not as_json:
            lab.tree(exporter)  # raises, with the names there are, for one that is not there
    if as_json:
        print_json([chapter.as_map() for chapter in chapters], indent=1)
        return
    for line in lines(chapters):
        print(line)
    if not chapters:
        typer.echo(f"nothing happened to {exporter} since {since}", err=True)
