"""The options of commands that take a lease."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jsnats.sdk import Wanted

Selectors = Annotated[
    list[str],
    typer.Option(
        "-l",
        "--selector",
        metavar="SELECTOR",
        help="Labels of the exporter, as in 'board=rpi4,site!=paris' or name=bench-1; again for a second exporter.",
        show_default=False,
    ),
]
For = Annotated[str | None, typer.Option("--duration", metavar="TIME", help="How long it is wanted: 30m, 1h30m.")]
Priority = Annotated[str | None, typer.Option(metavar="N", help="Before those with less; the lab says who may.")]
Wait = Annotated[str | None, typer.Option("--wait", metavar="TIME", help="How long to wait for it, at most.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait: now or not at all.")]
Note = Annotated[str | None, typer.Option(metavar="TEXT", help="What for, for others to read.")]


def asked_for(
    selectors: Sequence[str],
    *,
    tether_s: float,
    duration: str | None,
    priority: str | None,
    wait: str | None,
    no_wait: bool,
    note: str | None,
) -> Wanted:
    """What the options mean. Raises ConfigurationError."""
    from jsnats.schemas import ConfigurationError
    from jsnats.sdk import wanted

    if wait is not None and no_wait:
        raise ConfigurationError("give one of --wait and --no-wait")
    return wanted(
        selectors,
        duration=duration,
        priority=_whole(priority),
        wait=0.0 if no_wait else wait,
        tether=tether_s,
        note=note or "",
    )


def _whole(text: str | None) -> int:
    from jsnats.schemas import ConfigurationError

    try:
        return int(text or 0)
    except ValueError:
        raise ConfigurationError(f"--priority takes a whole number, not {text!r}") from None
