"""`jsnats up` and `jsnats agent`. What they need is imported when they run, so that `--help` stays fast."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from jsnats.sdk.cli import UNITS, ContextFile, Nats, Systemd, UnitFolder

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ._agent import Hosted
    from ._config import LoadedExporter

Files = Annotated[
    list[Path],
    typer.Argument(metavar="EXPORTER.yaml...", help="Exporters, one or more in each file.", show_default=False),
]


class _WithCommand(TyperCommand):
    """What stands behind `--` is the command to run, whatever it looks like."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the command off before the parser, which would mix it with the files."""
        end = args.index("--") if "--" in args else len(args)
        ctx.obj = args[end + 1 :]
        return super().parse_args(ctx, args[:end])

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Show it in the usage line too."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


up = typer.Typer()


@up.command("up", cls=_WithCommand)
def _up(
    ctx: typer.Context,
    files: Files,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Keep the lab here; without it, it is temporary.")
    ] = None,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Run a whole lab: a broker (unless one is named), the exporters, and a shell or COMMAND that works with them.

    In it, `j` talks to the first exporter and `jsnats` to all. When it ends, so does the lab.

    Example: jsnats up exporter.yaml -- pytest tests/
    """
    import asyncio

    _log_to_stderr("WARNING", agent="ERROR")  # what a call raised is shown by its caller, in the same terminal
    loaded = _load(files)
    from ._up import Plan, up

    code = asyncio.run(up(loaded, Plan(url=nats, context=context, directory=directory, command=ctx.obj)))
    raise typer.Exit(code)


agent_app = typer.Typer(help="Host exporters next to the hardware.", no_args_is_help=True)


@agent_app.callback()
def _group() -> None:
    """Keep `run` a sub-command: Typer would make the only command of an app the app itself."""


@agent_app.command()
def run(
    files: Files,
    nats: Annotated[str | None, typer.Option("--nats", metavar="URL", envvar="JSNATS_URL", help="The broker.")] = None,
    credentials: Annotated[
        Path | None,
        typer.Option(
            exists=True, metavar="FILE|DIR", help="Context file of the exporter, or the folder with NAME.json for each."
        ),
    ] = None,
) -> None:
    """Host exporters until Ctrl-C or SIGTERM. A broker that is not there yet is waited for.

    They answer lease holders only, unless a file says `lease: if-held`. What is changed in the files is followed: an
    exporter is made anew when nobody holds it.

    Example: jsnats agent run exporter.yaml --credentials bench-1.json
    """
    import asyncio

    _log_to_stderr("INFO", agent="INFO")
    loaded = _load(files)
    from ._agent import context_of, hosted
    from ._reload import run_files

    def host(each: LoadedExporter) -> Hosted:
        return hosted(each, context_of(each, nats, credentials), "required")

    raise typer.Exit(asyncio.run(_until_signal(run_files(files, loaded, host))))


@agent_app.command()
def install(
    files: Files,
    systemd: Systemd = False,
    credentials: Annotated[
        Path | None,
        typer.Option(exists=True, metavar="FILE|DIR", help="As of `run`; root alone need be able to read them."),
    ] = None,
    output: UnitFolder = UNITS,
) -> None:
    """Make a service of `jsnats agent run`, as a unit of systemd with a watchdog and a sandbox.

    It runs as a user of its own, in the groups dialout and plugdev. Other devices want more: see `systemctl edit`.

    Example: jsnats agent install --systemd /etc/jsnats/bench-1.yaml --credentials /etc/jsnats/bench-1.json
    """
    from jsnats.sdk.cli import CREDENTIALS, Unit, install_unit

    names = [each.name for each in _load(files)]
    held = {f"{name}.json": _credential(credentials, name) for name in names} if credentials else {}
    unit = Unit(
        name="jsnats-agent.service",
        words="agent",
        description=f"jsnats exporter agent ({', '.join(names)})",
        arguments=[*(str(file.absolute()) for file in files), *(["--credentials", CREDENTIALS] if held else [])],
        own=["DynamicUser=yes", "SupplementaryGroups=dialout plugdev"],
        credentials=held,
    )
    typer.echo(install_unit(unit, output, systemd=systemd))


def _credential(given: Path, exporter: str) -> Path:
    return (given / f"{exporter}.json" if given.is_dir() else given).absolute()


async def _until_signal(running: Coroutine[Any, Any, None]) -> int:
    import asyncio
    import signal

    work = asyncio.ensure_future(_supervised(running))
    caught: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if not caught:  # a second Ctrl-C must not interrupt the clean-up
            work.cancel()
        caught.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        await work
    except asyncio.CancelledError:
        if not caught:
            raise
    return 130 if caught[0] == signal.SIGINT else 0


async def _supervised(running: Coroutine[Any, Any, None]) -> None:
    from jsnats.sdk import supervised

    async with supervised():
        await running


def _load(files: list[Path]) -> list[LoadedExporter]:
    from ._config import load

    return load(files)


class _Format(logging.Formatter):
    """The first letter of the level, and of a driver's line the driver it is of."""

    def format(self, record: logging.LogRecord) -> str:
        """As the base class."""
        driver = record.name.removeprefix("jsnats.driver.")
        where = f"{driver}: " if driver != record.name else ""
        return f"{record.levelname[0]} {where}{super().format(record)}"


def _log_to_stderr(level: str, agent: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Format())
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("jsnats.agent").setLevel(agent)
