"""`jsnats broker` and `jsnats auth`. What they need is imported when they run, so that `--help` stays fast."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from ._ensure import Usage
    from ._lab_dir import LabDir

broker_app = typer.Typer(help="Run the broker of a lab.", no_args_is_help=True)
auth_app = typer.Typer(help="Say who may connect to the broker.", no_args_is_help=True)

Dir = Annotated[
    Path | None, typer.Option("--dir", help="Directory of the lab.", show_default="~/.local/state/jsnats/lab")
]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="What users may ask of the scheduler.",
        show_default="policy.yaml in the directory of the lab",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

SYNC_HELP = "How often data is forced onto the disk: 10s, or always, against the loss of power."
_AS_BEFORE = "127.0.0.1, or as before"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def checked_port(param: typer.CallbackParam, value: int | None) -> int | None:
    """The callback of an option that is a port."""
    with one_line_errors():
        if value is not None and not 0 <= value <= 65535:
            refuse(f"{param.opts[0]} {value}: there is no such port, they go from 1 to 65535")
    return value


def checked_output(path: Path | None) -> Path | None:
    """The callback of an option that names a file to write."""
    with one_line_errors():
        if path and not os.path.isdir(path.parent):
            refuse(f"cannot write {path}: make the folder {path.parent} first")
        if path and os.path.isdir(path):
            refuse(f"cannot write {path}: it is a folder")
    return path


class Role(StrEnum):
    """The roles that people add."""

    exporter = "exporter"
    user = "user"
    viewer = "viewer"
    scheduler = "scheduler"
    admin = "admin"
    site = "site"


@broker_app.command()
def run(
    directory: Dir = None,
    listen: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 for the network.", show_default=_AS_BEFORE)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to listen on; 0 for a free one.", show_default="4222, or as before", callback=checked_port
        ),
    ] = None,
    store_size: Annotated[
        str, typer.Option(help="Bytes to store at most: 500M, 10G.", show_default="20 % of the disk")
    ] = "",
    policy: PolicyFile = None,
    mqtt: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", help="Also listen for MQTT there: see `jsnats auth add --mqtt`.", callback=checked_port
        ),
    ] = None,
    sync: Annotated[str | None, typer.Option(help=SYNC_HELP, show_default="2m, or as before")] = None,
) -> None:
    """Run the broker until Ctrl-C, with JetStream, roles and streams, and with its store of files and its scheduler.

    Example: jsnats broker run --listen 0.0.0.0 --store-size 50G
    """
    import asyncio
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("jsnats.scheduler").setLevel(logging.INFO)
    with one_line_errors():
        asyncio.run(
            _serve(
                directory,
                listen=listen,
                port=port,
                total_bytes=parse_bytes(store_size),
                policy=policy,
                mqtt=mqtt,
                sync=sync,
            )
        )


@broker_app.command("df")
def show_usage(directory: Dir = None, as_json: Json = False) -> None:
    """Show how full the streams are, how old the oldest message of each is, and for how long it is kept.

    Example: jsnats broker df --json
    """
    import asyncio
    from dataclasses import asdict

    with one_line_errors():
        rows = asyncio.run(_usage(directory))
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    typer.echo(f"{'STREAM':<20} {'USED':>8} {'OF':>8} {'MESSAGES':>10}  {'OLDEST':<8} KEPT FOR")
    for row in rows:
        line = f"{row.stream:<20} {_size(row.bytes):>8} {_size(row.max_bytes):>8} {row.messages:>10}  "
        typer.echo(f"{line}{_age(row.age_s):<8} {_age(row.max_age_s or None)}".rstrip())


@auth_app.command()
def init(directory: Dir = None) -> None:
    """Make the directory of a lab, if it is not there.

    Example: jsnats auth init --dir /srv/lab
    """
    from ._lab_dir import LabDir

    with one_line_errors():
        lab = LabDir(directory)
        lab.init()
    typer.echo(str(lab.path))


@auth_app.command()
def add(
    role: Annotated[Role, typer.Argument(help="What it may do.")],
    name: Annotated[str, typer.Argument(help="Its name; no two principals share one.")],
    directory: Dir = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the context file here too.", callback=checked_output)
    ] = None,
    mqtt: Annotated[bool, typer.Option("--mqtt", help="A viewer who comes by MQTT, with a password.")] = False,
    site: Annotated[
        str, typer.Option(metavar="NAME", help="A user or viewer of that site of this hub, as NAME@hub there.")
    ] = "",
) -> None:
    """Let somebody connect, and print where the context file is. It holds a secret: hand it over safely.

    With --mqtt it is a file with user name and password, for any MQTT 3.1.1 client. Of a site, what its
    `jsnats broker config --leaf FILE` needs.

    Example: jsnats auth add user alice --output alice.json
    """
    from ._lab_dir import LabDir

    lab = LabDir(directory)
    with one_line_errors(), _new_lab_told(lab):
        if mqtt:
            _add_mqtt(lab, role, name, output)
            return
        if role is Role.site:
            _add_site(lab, name, output)
            return
        context = lab.add(role.value, name, site=site)
        if output:
            context.save(output)
        typer.echo(str(output or lab.context_path(name, site=site)))


@auth_app.command("ls")
def list_principals(directory: Dir = None, as_json: Json = False) -> None:
    """List who may connect.

    Example: jsnats auth ls --json
    """
    from ._lab_dir import LabDir

    with one_line_errors():
        principals = LabDir(directory).principals()
    if as_json:
        rows = [{"name": each.name, "role": each.role, "key": each.key} for each in principals]
        more = [{"mqtt": bool(each.password), "site": each.site} for each in principals]
        print_json([row | extra for row, extra in zip(rows, more, strict=True)])
        return
    for each in principals:
        how = " (mqtt)" if each.password else f" (at {each.site})" if each.site and each.role != Role.site else ""
        typer.echo(f"{each.role:<10} {each.name}{how}")


@auth_app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The name.")],
    directory: Dir = None,
    site: Annotated[str, typer.Option(metavar="NAME", help="A visitor of that site.")] = "",
) -> None:
    """Lock somebody out; open connections are dropped at once. A site goes with all its visitors.

    Example: jsnats auth revoke alice
    """
    from ._lab_dir import LabDir

    with one_line_errors():
        gone = LabDir(directory).revoke(name, site=site)
    typer.echo(f"{gone.role} {gone.name} revoked")


@contextmanager
def _new_lab_told(lab: LabDir) -> Iterator[None]:
    """Say so if there was no lab: the directory may be mistyped."""
    known = lab.exists()
    try:
        yield
    finally:
        if not known and lab.exists():
            typer.echo(f"made a new lab in {lab.path}", err=True)


def _add_mqtt(lab: LabDir, role: Role, name: str, output: Path | None) -> None:
    if role is not Role.viewer or output:
        refuse("--mqtt makes viewers, and no context file: say `jsnats auth add viewer NAME --mqtt`")
    typer.echo(str(lab.add_mqtt(name)))


def _add_site(lab: LabDir, name: str, output: Path | None) -> None:
    from jsnats.sdk import write_secret

    leaf = lab.add_site(name)
    if output:
        write_secret(output, leaf.encode())
    typer.echo(str(output or lab.creds / name / "leaf.json"))


async def _serve(directory: Path | None, **options: Any) -> None:
    import asyncio
    import signal

    from ._run import run_broker

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with run_broker(directory, **options) as broker:
        typer.echo(f"broker     {broker.lab.settings().url}")
        if broker.mqtt:
            typer.echo(f"mqtt       port {broker.mqtt}, topics jsnats/event/# (not encrypted)")
        typer.echo(f"lab        {broker.lab.path}")
        typer.echo(f"log        {broker.lab.log}")
        typer.echo(f"next       jsnats auth add user NAME{broker.lab.option}   (Ctrl-C stops the broker)")
        await stop.wait()


async def _usage(directory: Path | None) -> list[Usage]:
    from ._at_broker import at_broker
    from ._ensure import df
    from ._lab_dir import LabDir

    async with at_broker(LabDir(directory), "df") as nc:
        return await df(nc)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """An error of ours is one line and an exit code."""
    from jsnats.schemas import JsnatsError

    try:
        yield
    except JsnatsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None


def parse_bytes(text: str) -> int | None:
    """Read `500M`, None for nothing. Raises ConfigurationError."""
    if not text:
        return None
    number, unit = (text[:-1], text[-1].upper()) if text[-1].isalpha() else (text, "")
    if not number.isdigit() or unit not in _UNITS or int(number) == 0:
        refuse(f"--store-size {text!r} is no size: write it like 500M or 10G")
    return int(number) * _UNITS[unit]


def refuse(message: str) -> NoReturn:
    """Raise ConfigurationError."""
    from jsnats.schemas import ConfigurationError

    raise ConfigurationError(message)


def _size(count: int) -> str:
    unit = max((unit for unit in _UNITS if count >= _UNITS[unit]), key=_UNITS.__getitem__, default="")
    return f"{count / _UNITS[unit]:.1f}{unit}" if unit else str(count)


def _age(seconds: float | None) -> str:
    from ._retention import age_text

    return "" if seconds is None else age_text(seconds)


def print_json(value: Any) -> None:
    """Print it for a program."""
    import json

    typer.echo(json.dumps(value, indent=1))


# They take the options above.
from . import cli_backup as _backup, cli_outside as _outside, cli_retention as _retention  # noqa: E402, F401
