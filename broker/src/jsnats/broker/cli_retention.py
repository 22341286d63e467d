"""`jsnats broker retention`. What it needs is imported when it runs, so that `--help` stays fast."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from .cli import Dir, Json, broker_app, one_line_errors, print_json, refuse

if TYPE_CHECKING:
    from ._lab_dir import LabDir
    from ._settings import Settings


@broker_app.command()
def retention(
    directory: Dir = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STREAM=AGE:SIZE", help="Keep that: events=365d:5G, logs=3d, console=:20G."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, whatever is dropped.")] = False,
    as_json: Json = False,
) -> None:
    """Show what is kept of events, logs, consoles, results and files (blobs): for how long, and how much; or change it.

    A size is taken from the others: together they are what the broker may store. A change holds at once. What is
    dropped by it is shown first. STREAM=default goes back to what it was at first.

    Example: jsnats broker retention --set events=365d:5G --set logs=3d
    """
    import asyncio

    from ._lab_dir import LabDir
    from ._retention import parse_setting

    with one_line_errors():
        lab = LabDir(directory)
        known = lab.settings()
        if settings:
            asked = dict(parse_setting(each) for each in settings)
            kept = {kind: keep for kind, keep in {**known.retention, **asked}.items() if keep.age_s or keep.size}
            known = replace(known, retention=kept)
            asyncio.run(_change(lab, known, yes=yes))
        _show(known, as_json)


def _show(settings: Settings, as_json: bool) -> None:
    from jsnats.sdk import size_text

    from ._ensure import MAX_TOTAL
    from ._retention import KINDS, age_text, limits

    total = settings.store_bytes or MAX_TOTAL
    rows = {kind: limits(spec, total, settings.retention) for kind, spec in KINDS.items()}
    if as_json:
        print_json({kind: {"bytes": size, "age_s": age} for kind, (size, age) in rows.items()})
        return
    for kind, (size, age) in rows.items():
        own = "  (set)" if kind in settings.retention else ""
        how_long = age_text(age) if age else "30d after its last use"
        typer.echo(f"{kind:<8} {size_text(size):>9}  {how_long}{own}")


async def _change(lab: LabDir, wanted: Settings, *, yes: bool) -> None:
    """Say what will be dropped, ask, do it. Without a broker it is done when that starts."""
    from contextlib import AsyncExitStack

    from jsnats.schemas import BrokerUnreachable

    from ._at_broker import at_broker
    from ._ensure import MAX_TOTAL, df, ensure_streams
    from ._retention import KINDS, limits, losses

    sizes = {
        spec.name: (spec, *limits(spec, wanted.store_bytes or MAX_TOTAL, wanted.retention)) for spec in KINDS.values()
    }
    async with AsyncExitStack() as stack:
        try:
            nc = await stack.enter_async_context(at_broker(lab, "retention"))
        except BrokerUnreachable as error:
            if not yes:
                refuse(f"{error}; without it nobody knows what will be dropped: --yes changes it for its next start")
            lab.save_settings(wanted)
            return
        rows = [row for row in await df(nc) if row.stream in sizes]
        _confirm([line for row in rows for line in losses(*sizes[row.stream], row.bytes, row.age_s)], yes=yes)
        lab.save_settings(wanted)
        outside = lab.outside()
        replicas = outside.replicas if outside else 1
        await ensure_streams(nc, wanted.store_bytes, replicas=replicas, retention=wanted.retention)


def _confirm(lines: list[str], *, yes: bool) -> None:
    for line in lines:
        typer.echo(line, err=True)
    if not lines or yes:
        return
    if not sys.stdin.isatty():
        refuse("nothing was changed: say --yes if that may be")
    if not typer.confirm("Go on?", err=True):
        refuse("nothing was changed")
