"""`jsnats scheduler`. What it needs is imported when it runs, so that `--help` stays fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jsnats.sdk.cli import ContextFile, Nats

from .cli import one_line_errors

if TYPE_CHECKING:
    from jsnats.sdk import Context

scheduler_app = typer.Typer(help="Run a scheduler of a lab.", no_args_is_help=True)

RETRY_S = 1.0


@scheduler_app.callback()
def _group() -> None:
    """Run a scheduler of a lab."""


@scheduler_app.command()
def run(
    nats: Nats = None,
    context: ContextFile = None,
    policy: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, metavar="FILE", help="What users may ask for: a policy.yaml."),
    ] = None,
) -> None:
    """Grant and end leases until Ctrl-C, beside the scheduler that `jsnats broker run` has, or in its place.

    Any number may run at once. It needs a credential: `jsnats auth add scheduler NAME`. A broker that is not there yet
    is waited for.

    Example: jsnats scheduler run --context scheduler-sched2.json --policy policy.yaml
    """
    import asyncio
    import logging

    from jsnats.sdk import find_context

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for name in ("jsnats.scheduler", "jsnats.connection"):  # its own doings, and that the broker has gone or is back
        logging.getLogger(name).setLevel(logging.INFO)
    with one_line_errors():
        asyncio.run(_until_signal(find_context(nats, context), policy))


async def _until_signal(context: Context, policy: Path | None) -> None:
    import asyncio
    import signal

    work = asyncio.ensure_future(_serve(context, policy))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        typer.echo("stopped", err=True)


async def _serve(context: Context, policy: Path | None) -> None:
    import asyncio

    from jsnats.schemas import BrokerUnreachable

    from ._serve_scheduler import serving_scheduler

    told = False
    while True:
        try:
            async with serving_scheduler(context, policy=policy):
                typer.echo(f"scheduler  {context.name} at {context.url}  (Ctrl-C stops it)")
                await asyncio.Event().wait()
        except BrokerUnreachable as error:
            if not told:
                typer.echo(f"{error}; waiting for it", err=True)
            told = True
            await asyncio.sleep(RETRY_S)
