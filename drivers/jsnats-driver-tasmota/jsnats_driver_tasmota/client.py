"""The user's side of a plug: never imports the driver."""

import click

from jsnats_driver_power.client import PowerClient


class TasmotaClient(PowerClient):
    """Client of a Tasmota plug: that of every power driver, and what the plug says that it is."""

    def is_on(self) -> bool:
        """Ask the plug whether it is on; a button at the plug counts."""
        return bool(self.call("is_on"))

    def cli(self) -> click.Group:
        """Return the commands of `j`: those of power, and `state`."""
        base = super().cli()

        @base.command()
        def state() -> None:
            """Show whether the plug is on or off."""
            click.echo("on" if self.is_on() else "off")

        return base
