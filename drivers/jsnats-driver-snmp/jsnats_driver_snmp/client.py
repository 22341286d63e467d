"""The user's side of an outlet: never imports the driver."""

from __future__ import annotations

import click

from jsnats_driver_power.client import PowerClient


class SNMPServerClient(PowerClient):
    """Client of an outlet: power, and what the PDU says about it."""

    def is_on(self) -> bool:
        """Ask the PDU whether the outlet is on. Raises ConnectionError, TimeoutError, or ValueError for no outlet."""
        return bool(self.call("is_on"))

    def cli(self) -> click.Group:
        """Return the commands of `j`: those of power and `state`."""
        base = super().cli()

        @base.command()
        def state() -> None:
            """Show whether the outlet is on."""
            click.echo("on" if self.is_on() else "off")

        return base
