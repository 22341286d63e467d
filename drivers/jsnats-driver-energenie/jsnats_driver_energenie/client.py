"""The user's side of a socket: never imports the driver."""

from __future__ import annotations

import click

from jsnats_driver_power.client import PowerClient


class EnerGenieClient(PowerClient):
    """A PowerClient that can also ask whether the socket is on; `read` raises NotImplementedError."""

    def is_on(self) -> bool:
        """Ask the strip whether the socket is on."""
        return bool(self.call("is_on"))

    def cli(self) -> click.Group:
        """Return the commands of `j`: those of power, and `state`."""
        base = super().cli()

        @base.command()
        def state() -> None:
            """Show whether the socket is on or off."""
            click.echo("on" if self.is_on() else "off")

        return base
