"""`jsnats scheduler`. What it needs is imported when it runs, so that `--help` stays fast."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from jsnats.sdk.cli import UNITS, ContextFile, Nats, Systemd, UnitFolder

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


@scheduler_app.command()
def install(
    systemd: Systemd = False,
    context: ContextFile = None,
    policy: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="As of `run`.")
    ] = None,
    output: UnitFolder = UNITS,
) -> None:
    """Make a service of `jsnats scheduler run`, as a unit of systemd with a watchdog and a sandbox.

    Example: jsnats scheduler install --systemd --context /etc/jsnats/scheduler.json
    """
    from jsnats.schemas import ConfigurationError
    from jsnats.sdk.cli import CREDENTIALS, Unit, install_unit

    held = {"scheduler.json": context} | ({"policy.yaml": policy} if policy else {})
    with one_line_errors():
        if context is None:
            raise ConfigurationError("a scheduler needs a credential: `jsnats auth add scheduler NAME`, and --context")
        if not context.is_file():
            raise ConfigurationError(f"no context file {context}: `jsnats auth add scheduler NAME` makes one")
        arguments = ["--context", f"{CREDENTIALS}/scheduler.json"]
        unit = Unit(
            name="jsnats-scheduler.service",
            words="scheduler",
            description="jsnats scheduler",
            arguments=arguments + (["--policy", f"{CREDENTIALS}/policy.yaml"] if policy else []),
            own=["DynamicUser=yes", "ProtectHome=yes", "PrivateDevices=yes"],
            credentials={name: path.absolute() for name, path in held.items() if path},
        )
        typer.echo(install_unit(unit, output, systemd=systemd))


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
    from jsnats.sdk import supervised

    waiting = False
    async with supervised():
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
