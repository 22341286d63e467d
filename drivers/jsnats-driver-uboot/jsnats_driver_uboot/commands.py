"""The commands of `j` for U-Boot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from jsnats.sdk.cli import progress_line

if TYPE_CHECKING:
    from .client import UbootConsoleClient

_REST = {"allow_interspersed_args": False, "ignore_unknown_options": True}


def uboot_commands(client: UbootConsoleClient) -> click.Group:
    """Return the group of all of them."""

    @click.group
    def base() -> None:
        """Work with the board's U-Boot."""

    for command in (_reboot, _console, _run, _boot, _env, _dhcp):
        base.add_command(command(client))
    return base


def _seconds(default: float, what: str) -> Callable[[Any], Any]:
    seconds = click.FloatRange(0, min_open=True)
    return click.option("--timeout", default=default, show_default=True, type=seconds, help=f"Seconds {what}.")


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def _shown(client: UbootConsoleClient) -> Iterator[UbootConsoleClient]:
    """The client, with the last line of the console as progress in a terminal."""
    with progress_line() as progress:
        yield client.options(on_progress=progress)


def _reboot(client: UbootConsoleClient) -> click.Command:
    @click.command("reboot")
    @_seconds(60.0, "until the prompt")
    def reboot(timeout: float) -> None:
        """Switch the board off and on, and stop its autoboot; show what it said."""
        with _shown(client) as uboot:
            said = uboot.reboot(timeout)
        click.echo(said.strip())

    return reboot


def _console(client: UbootConsoleClient) -> click.Command:
    @click.command("console")
    @_seconds(60.0, "until the prompt")
    def console(timeout: float) -> None:
        """As reboot, then talk to the console: of a serial driver that has a `console` command."""
        talk = client.serial.cli()
        if "console" not in getattr(talk, "commands", {}):
            raise click.UsageError(
                "the serial driver has no console to talk to, only a byte stream: use reboot and run"
            )
        with _shown(client) as uboot:
            uboot.reboot(timeout)
        talk.main(["console"], prog_name="j serial", standalone_mode=False)

    return console


def _run(client: UbootConsoleClient) -> click.Command:
    @click.command("run", context_settings=_REST)
    @_seconds(60.0, "it may take")
    @_json
    @click.argument("command", nargs=-1, required=True)
    @click.pass_context
    def run(context: click.Context, command: tuple[str, ...], timeout: float, as_json: bool) -> None:
        """Run COMMAND at the prompt; the exit code is its status. Quotes of U-Boot's own: j uboot run 'echo "a  b"'."""
        with _shown(client) as uboot:
            result = uboot.run(" ".join(command), timeout)
        click.echo(result.model_dump_json() if as_json else result.output, nl=as_json or bool(result.output))
        if result.status is None:
            raise click.ClickException("no status: this U-Boot has no hush shell")
        context.exit(result.status if 0 <= result.status <= 255 else 1)

    return run


def _boot(client: UbootConsoleClient) -> click.Command:
    @click.command("boot", context_settings=_REST)
    @click.argument("command", nargs=-1)
    def boot(command: tuple[str, ...]) -> None:
        """Give COMMAND (boot, if none is said) and do not wait for its end: bootm, go, reset."""
        client.boot(" ".join(command) or "boot")

    return boot


def _dhcp(client: UbootConsoleClient) -> click.Command:
    @click.command("dhcp")
    @_seconds(60.0, "it may take")
    @_json
    def dhcp(timeout: float, as_json: bool) -> None:
        """Get an address for U-Boot, and show it."""
        with _shown(client) as uboot:
            info = uboot.setup_dhcp(timeout)
        if as_json:
            click.echo(info.model_dump_json())
        else:
            click.echo(f"address {info.ip_address}  netmask {info.netmask or '-'}  gateway {info.gateway or '-'}")

    return dhcp


def _env(client: UbootConsoleClient) -> click.Command:
    @click.group("env")
    def env() -> None:
        """Read and set variables of the environment."""

    @env.command("get")
    @_json
    @click.argument("name")
    def get(name: str, as_json: bool) -> None:
        """Show the value of NAME; if it has none the exit code is 1, or with --json it is null."""
        value = client.get_env(name)
        if value is None and not as_json:
            raise click.ClickException(f"{name} is not defined")
        click.echo(json.dumps(value) if as_json else value)

    @env.command("set")
    @click.argument("name")
    @click.argument("value", required=False)
    def set_(name: str, value: str | None) -> None:
        """Set NAME to VALUE, or remove it without one. `j uboot run saveenv` makes it last."""
        client.set_env(name, value)

    @env.command("print")
    @_json
    def print_(as_json: bool) -> None:
        """Show all variables."""
        found = client.print_env()
        click.echo(json.dumps(found) if as_json else "\n".join(f"{name}={value}" for name, value in found.items()))

    return env
