"""`jsnats driver`: the commands for those who write drivers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

driver_app = typer.Typer(no_args_is_help=True, help="Write drivers.")


@driver_app.callback()
def _group() -> None:
    """Keep `create` a sub-command: Typer would make the only command of an app the app itself."""


@driver_app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The device in kebab-case, like my-device.")],
    cls: Annotated[str, typer.Option("--class", metavar="CLASS", help="The driver class, like MyDevice.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where the package goes.")] = Path("drivers"),
    standalone: Annotated[bool, typer.Option("--standalone", help="For a repository of its own.")] = False,
) -> None:
    """Start a driver package: a working example with tests, in the shape of the driver guide.

    Example: jsnats driver create my-device --class MyDevice
    """
    from jsnats.agent._scaffold import NewDriver, create_driver

    path = create_driver(NewDriver(name, cls), folder, standalone=standalone)
    typer.echo(f"{path} is made; `pip install -e {path}` installs it")
