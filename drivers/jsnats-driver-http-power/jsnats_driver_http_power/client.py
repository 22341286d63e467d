"""The user's side of power by HTTP: never imports the driver."""

from __future__ import annotations

import click

from jsnats_driver_power.client import PowerClient


class HttpPowerClient(PowerClient):
    """Client of a power switch that can be asked whether it is on."""

    def is_on(self) -> bool:
        """Return whether the device says that it is on.

        Raises NotImplementedError (as DriverNotImplemented) where no request for the state is configured,
        ConnectionError (as DriverConnectionError) where it says neither.
        """
        return bool(self.call("is_on"))

    def cli(self) -> click.Group:
        """Return the commands of `j`: those of power, and `state`."""
        base = super().cli()

        @base.command()
        def state() -> None:
            """Show whether it is on."""
            click.echo("on" if self.is_on() else "off")

        return base
