"""The user's side of MyDevice, its harness and its port forward: never imports the driver."""

from collections.abc import Generator
from ipaddress import IPv6Address, ip_address
from threading import Event

import click

from jsnats.client import DriverClient
from jsnats_driver_composite.client import CompositeClient
from jsnats_driver_network.adapters import TcpPortforwardAdapter


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


class MyPortforwardClient(DriverClient):
    """Client of a service that is reached by a port of this machine."""

    def cli(self) -> click.Group:
        """Return the commands of `j`."""

        @click.group
        def base() -> None:
            """Generic Network Connection"""

        @base.command()
        @click.option("--address", default="localhost", show_default=True)
        @click.argument("port", type=int)
        def forward_tcp(address: str, port: int) -> None:
            """
            Forward local TCP port to remote network

            PORT is the TCP port to listen on.
            """

            with TcpPortforwardAdapter(
                client=self,
                local_host=address,
                local_port=port,
            ) as addr:
                host = ip_address(addr[0])
                port = addr[1]
                match host:
                    case IPv6Address():
                        click.echo(f"[{host}]:{port}")
                    case _:
                        click.echo(f"{host}:{port}")

                Event().wait()

        return base


class ExampleClient(DriverClient):
    """Client of ExampleDriver."""

    def example(self) -> int:
        """Return 1 for a true argument."""
        return int(self.call("example"))
