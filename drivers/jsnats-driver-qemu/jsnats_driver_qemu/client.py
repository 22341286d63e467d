"""The user's side of a virtual board: never imports the driver."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from jsnats.client import DriverClient
from jsnats_driver_composite.client import CompositeClient

from .common import Snapshot

if TYPE_CHECKING:
    from fabric import Connection  # type: ignore[import-untyped]


class QemuClient(CompositeClient):
    """Client of a virtual board: children `power`, `flasher`, `console`, `vnc`, `snapshots`, `ssh` and the forwards."""

    @property
    def hostname(self) -> str:
        """Name that the guest is told to have."""
        return str(self.call("get_hostname"))

    @property
    def username(self) -> str:
        """User that the guest is told to have."""
        return str(self.call("get_username"))

    @property
    def password(self) -> str:
        """Password of that user."""
        return str(self.call("get_password"))

    def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Give a command to QEMU's monitor, and return its answer: `qmp("query-status")`, `qmp("system_reset")`.

        Raises PermissionError for what reaches beyond the board, ConnectionError while it is off, OSError.
        """
        return self.call("qmp", command, arguments)

    @contextmanager
    def shell(self, **connect_kwargs: Any) -> Iterator[Connection]:
        """A `fabric.Connection` to the guest as its user, by password unless `connect_kwargs` (paramiko's) say else.

        Needs `jsnats-driver-qemu[ssh]`, and an ssh server in the guest.
        """
        from jsnats_driver_network.adapters import FabricAdapter

        given = connect_kwargs or {"password": self.password, "look_for_keys": False, "allow_agent": False}
        with FabricAdapter(client=self.children["ssh"], user=self.username, connect_kwargs=given) as connection:
            yield connection

    @contextmanager
    def novnc(self) -> Iterator[str]:
        """URL of a websocket for a noVNC viewer on this machine. Needs `jsnats-driver-qemu[novnc]`."""
        from jsnats_driver_network.adapters import NovncAdapter

        with NovncAdapter(client=self.children["vnc"]) as url:
            yield url

    def cli(self) -> click.Command:
        """Return the commands of `j`: those of the children, and `qmp`."""
        base = super().cli()
        assert isinstance(base, click.Group)

        @base.command()
        @click.argument("command")
        @click.argument("arguments", default="{}")
        def qmp(command: str, arguments: str) -> None:
            """Give COMMAND to QEMU's monitor, with ARGUMENTS as a JSON object; the answer is JSON."""
            click.echo(json.dumps(self.qmp(command, _object(arguments))))

        return base


class SnapshotsClient(DriverClient):
    """Client of the snapshots of a virtual board."""

    def save(self, name: str) -> None:
        """Take a snapshot of memory, devices and disks. Raises ValueError for a name that is taken."""
        self.call("save", name)

    def load(self, name: str) -> None:
        """Go back to a snapshot. Raises ValueError for one that is not there."""
        self.call("load", name)

    def delete(self, name: str) -> None:
        """Remove a snapshot. Raises ValueError for one that is not there."""
        self.call("delete", name)

    def list(self) -> builtins.list[Snapshot]:
        """The snapshots there are, the oldest first. Raises ConnectionError while the board is off, as all of them."""
        return [Snapshot.model_validate(each) for each in self.call("list")]

    def cli(self) -> click.Group:
        """Return the commands of `j`."""

        @click.group
        def base() -> None:
            """Save the whole board, and go back to it, while it is on."""

        for each in (self.save, self.load, self.delete):
            base.add_command(_named(each))

        @base.command("list")
        @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
        def list_(as_json: bool) -> None:
            """Show the snapshots, the oldest first."""
            for each in self.list():
                text = f"{each.taken.astimezone():%Y-%m-%d %H:%M:%S} {each.size / 1e6:9.1f} MB  {each.name}"
                click.echo(each.model_dump_json() if as_json else text)

        return base


def _named(method: Any) -> click.Command:
    @click.command(method.__name__, help=method.__doc__.partition(".")[0] + ".")
    @click.argument("name")
    def command(name: str) -> None:
        method(name)

    return command


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"no JSON: {error}", param_hint="ARGUMENTS") from error
    if not isinstance(found, dict):
        raise click.BadParameter('must be a JSON object, as {"name": "net"}', param_hint="ARGUMENTS")
    return found
