"""The user's side of a card behind an SDWire: never imports the driver."""

from __future__ import annotations

import json

import click

from jsnats_driver_opendal.flasher_client import StorageMuxFlasherClient


class SDWireClient(StorageMuxFlasherClient):
    """Client of a card behind an SDWire: flash, dump, where the card is, and where it shall be."""

    def query(self) -> str:
        """Ask the SDWire where the card is: `host` or `dut`. Raises ConnectionError, TimeoutError, OSError."""
        return str(self.call("query"))

    def cli(self) -> click.Group:
        """Return the commands of `j`: those of every storage mux, and `state`."""
        base = super().cli()

        @base.command()
        @click.option("--json", "as_json", is_flag=True, help='"host" or "dut".')
        def state(as_json: bool) -> None:
            """Show where the card is: host or dut."""
            found = self.query()
            click.echo(json.dumps(found) if as_json else found)

        return base
