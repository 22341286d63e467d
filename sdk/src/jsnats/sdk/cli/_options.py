"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Nats = Annotated[str | None, typer.Option("--nats", metavar="URL", help="The broker.", show_envvar=False)]
ContextFile = Annotated[
    Path | None, typer.Option("--context", metavar="FILE", help="Context file: who we are and where the broker is.")
]
Systemd = Annotated[bool, typer.Option("--systemd", help="As a unit of systemd; there is nothing else so far.")]
UnitFolder = Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the unit goes.")]
UNITS = Path("/etc/systemd/system")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
