"""`jsnats scheduler`. What it needs is imported when it runs, so that `--help` stays fast."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from jsnats.sdk.cli import ContextFile, Nats

from .cli import one_line_errors

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
    from jsnats.sdk import find_context

    from ._serve_scheduler import serving_scheduler

    with one_line_errors():
        found = find_context(nats, context)
        serve_until_signal(lambda: serving_scheduler(found, policy=policy), f"scheduler  {found.name} at {found.url}")


def serve_until_signal(service: Callable[[], AbstractAsyncContextManager[object]], told: str) -> None:
    """Run a service until Ctrl-C or SIGTERM, waiting for a broker that is not there. `told` is said when it serves."""
    import asyncio
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for name in ("jsnats.scheduler", "jsnats.connection"):  # its own doings, and that the broker has gone or is back
        logging.getLogger(name).setLevel(logging.INFO)
    asyncio.run(_until_signal(_serve(service, told)))


async def _until_signal(service: Coroutine[Any, Any, None]) -> None:
    import asyncio
    import signal

    work = asyncio.ensure_future(service)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        typer.echo("stopped", err=True)


async def _serve(service: Callable[[], AbstractAsyncContextManager[object]], told: str) -> None:
    import asyncio

    from jsnats.schemas import BrokerUnreachable

    waiting = False
    while True:
        try:
            async with service():
                typer.echo(f"{told}  (Ctrl-C stops it)")
                await asyncio.Event().wait()
        except BrokerUnreachable as error:
            if not waiting:
                typer.echo(f"{error}; waiting for it", err=True)
            waiting = True
            await asyncio.sleep(RETRY_S)
