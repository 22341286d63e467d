"""`jsnats driver`: the commands for those who write drivers, and for those who configure them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jsnats.sdk.cli import Json

if TYPE_CHECKING:
    from ._catalogue import DriverDoc, Parameter

driver_app = typer.Typer(no_args_is_help=True, help="Write drivers, and see which are installed.")


def complete_driver(incomplete: str) -> list[str]:
    """Names of the installed drivers."""
    from importlib import metadata

    return sorted(
        {each.name for each in metadata.entry_points(group="jsnats.drivers") if each.name.startswith(incomplete)}
    )


@driver_app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The device in kebab-case, like my-device.")],
    cls: Annotated[str, typer.Option("--class", metavar="CLASS", help="The driver class, like MyDevice.")],
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Where the package goes; by default drivers, or here if standalone.")
    ] = None,
    standalone: Annotated[bool, typer.Option("--standalone", help="For a repository of its own.")] = False,
) -> None:
    """Start a driver package: a working example with tests, in the shape of the driver guide.

    Example: jsnats driver create my-device --class MyDevice
    """
    from jsnats.agent._scaffold import NewDriver, create_driver

    path = create_driver(NewDriver(name, cls, standalone), folder or Path("." if standalone else "drivers"))
    tools, tests = (" 'jsnats[broker,testing]'", f"cd {path} && pytest") if standalone else ("", f"pytest {path}")
    typer.echo(f"{path} is made; `pip install -e {path}{tools}` installs it, `{tests}` runs its tests")


@driver_app.command("ls")
def list_drivers(as_json: Json = False) -> None:
    """List the drivers that are installed here; the name is the `type` of a node. One that cannot be loaded says why.

    Example: jsnats driver ls --json
    """
    from dataclasses import asdict

    from ._catalogue import installed

    drivers = installed()
    if as_json:
        _print_json([asdict(each) for each in drivers])
        return
    rows = [("NAME", "PACKAGE", "VERSION", "WHAT IT IS")]
    rows += [(each.name, each.package, each.version, each.summary or _first(each.error)) for each in drivers]
    _print_table(rows)


@driver_app.command()
def doc(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in `type:`.", autocompletion=complete_driver)],
    as_json: Json = False,
) -> None:
    """Show the parameters and the exported methods of a driver. NAME is an installed one, or package.module.Class.

    Example: jsnats driver doc MockPower
    """
    from ._catalogue import driver_doc

    found = driver_doc(name)
    if as_json:
        _print_json(_plain(found))
        return
    typer.echo(f"{found.name}  type: {found.type}  client: {found.client}\n")
    typer.echo(f"{found.doc}\n" if found.doc else "", nl=bool(found.doc))
    typer.echo("Parameters:" if found.parameters else "No parameters.")
    _print_table([("  " + each.name, each.type, _default(each), each.doc) for each in found.parameters])
    _print_methods(found)


def _print_methods(found: DriverDoc) -> None:
    from jsnats.sdk.cli import signature

    typer.echo("\nMethods:" if found.interface.methods else "\nNo methods.")
    for name, method in found.interface.methods.items():
        typer.echo(f"  {signature(name, method)}")
        for line in method.doc.splitlines():
            typer.echo(f"      {line}".rstrip())


def _plain(found: DriverDoc) -> dict[str, Any]:
    import json
    from dataclasses import asdict

    shown = {"name": found.name, "type": found.type, "client": found.client, "doc": found.doc}
    parameters = [asdict(each) for each in found.parameters]
    return shown | {"parameters": parameters, "methods": json.loads(found.interface.encode())["methods"]}


def _default(parameter: Parameter) -> str:
    import json

    return "required" if parameter.required else f"default {json.dumps(parameter.default)}"


def _first(text: str) -> str:
    return text.partition("\n")[0]


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    if rows:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=1))
