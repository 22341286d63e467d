"""The user's side of MyDevice and its harness: never imports the driver."""

from collections.abc import Generator

import click

from jsnats.client import DriverClient
from jsnats_driver_composite.client import CompositeClient


class MyDeviceClient(DriverClient):
    """Client interface for MyDevice driver."""

    def power_on(self) -> None:
        """Power on the device."""
        self.call("power_on")

    def power_off(self) -> str:
        """Power off the device."""
        return str(self.call("power_off"))

    def is_powered(self) -> bool:
        """Say whether the device is on."""
        return bool(self.call("is_powered"))

    def streaming(self) -> Generator[float, None, None]:
        """Read streaming data."""
        yield from self.streamingcall("streaming")

    def describe(self) -> dict[str, str]:
        """Return what the exporter's configuration says."""
        return dict(self.call("describe"))

    def read_sensor(self) -> float:
        """Read the sensor of the device, in its own unit."""
        return float(self.call("read_sensor"))

    def connect(self) -> None:
        """Try whether the exporter reaches the device. Raises DriverError."""
        self.call("connect")

    def cli(self) -> click.Group:
        """Return the commands of `j`."""

        @click.group
        def base() -> None:
            """My Device Driver"""

        @base.command()
        @click.option("--option", default="abc")
        @click.argument("name")
        def do_something(option: str, name: str) -> None:
            """Power on, greet NAME, power off."""
            self.power_on()
            click.echo(f"{name}: {option}, powered {self.is_powered()}, then {self.power_off()}")

        return base


class MyHarnessClient(CompositeClient):
    """The client of a harness: its devices are its attributes."""

    def switch(self, on: bool) -> None:
        """Set the main switch."""
        self.call("switch", on)


class ExampleClient(DriverClient):
    """Client of ExampleDriver."""

    def example(self) -> int:
        """Return 1 for a true argument."""
        return int(self.call("example"))
