"""The exporter's side of MyDevice, of a harness that holds one, and of a port on the exporter's side."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import field
from typing import Any
from urllib.request import urlopen

from pydantic import BaseModel, Field
from pydantic.dataclasses import dataclass

from jsnats.common.exceptions import DriverError
from jsnats.driver import Driver
from jsnats.driver.decorators import export
from jsnats_driver_network.driver import TcpNetwork


class MyConfig(BaseModel):
    """Nested configuration: checked by pydantic as the parameters of the driver are."""

    name: str = Field(default="test")


@dataclass(kw_only=True)
class MyDevice(Driver):
    """Driver for MyDevice hardware, which answers HTTP on `host` and `port`."""

    some_param: str = field(default="example")
    host: str = field(default="127.0.0.1")
    port: int = field(default=80)
    config: MyConfig = field(default_factory=MyConfig)

    @classmethod
    def client(cls) -> str:
        """Return the class that users get."""
        return "jsnats_driver_mydevice.client.MyDeviceClient"

    def __post_init__(self) -> None:
        """Set what follows from the parameters."""
        super().__post_init__()
        self.base_url = f"http://{self.host}:{self.port}"
        self.something_else = self.config.name
        self.powered = False

    @export
    async def power_on(self) -> None:
        """Power on the device."""
        self.powered = True

    @export
    async def power_off(self) -> str:
        """Power off the device."""
        self.off()
        return "ok"

    @export
    async def is_powered(self) -> bool:
        """Say whether the device is on."""
        return self.powered

    @export
    async def streaming(self) -> AsyncGenerator[float, None]:
        """Yield two readings."""
        yield 2.0
        yield 3.0

    @export
    async def describe(self) -> dict[str, str]:
        """Return what the configuration says."""
        return {"some_param": self.some_param, "name": self.something_else}

    @export
    async def read_sensor(self) -> float:
        """Read the sensor of the device, in its own unit.

        An OSError of the way there reaches the caller as DriverError.
        """
        data = await asyncio.to_thread(_get_json, f"{self.base_url}/sensor")
        return float(data["value"])

    @export
    async def connect(self) -> None:
        """Try whether the device can be reached. Raises DriverError."""
        try:
            _, writer = await asyncio.open_connection(self.host, self.port)
        except ConnectionError as e:
            raise DriverError(f"Failed to connect to device: {e}") from e
        writer.close()
        await writer.wait_closed()

    def off(self) -> None:
        """Cut the power; not exported, for `close` and `power_off`."""
        self.powered = False

    def close(self) -> None:
        """Leave the device cold: runs when a lease ends."""
        self.off()


class HarnessDevice(MyDevice):
    """A device that has power only while the main switch of its harness is on."""

    parent: "MyHarness"

    async def power_on(self) -> None:
        """Power on the device. Raises DriverError while the main switch is off."""
        if not self.parent.live:
            raise DriverError("the main switch of the harness is off: call switch(True) on the harness first")
        await super().power_on()


class MyHarness(Driver):
    """A harness: a main switch, and a device behind it."""

    live = False

    @classmethod
    def client(cls) -> str:
        """Return the class that users get."""
        return "jsnats_driver_mydevice.client.MyHarnessClient"

    def __post_init__(self) -> None:
        """Make the device, and tell it where it belongs."""
        super().__post_init__()
        self.children["device"] = HarnessDevice(parent=self)

    @export
    async def switch(self, on: bool) -> None:
        """Set the main switch."""
        self.live = on

    def close(self) -> None:
        """Switch everything off: runs when a lease ends."""
        self.live = False


class MyPortforward(TcpNetwork):
    """A TCP service that users reach by a port of their own machine."""

    @classmethod
    def client(cls) -> str:
        """Return the class that users get."""
        return "jsnats_driver_mydevice.client.MyPortforwardClient"


@dataclass(kw_only=True)
class ExampleDriver(Driver):
    """The smallest driver that has a parameter."""

    my_argument: bool = False

    @classmethod
    def client(cls) -> str:
        """Return the class that users get."""
        return "jsnats_driver_mydevice.client.ExampleClient"

    @export
    async def example(self) -> int:
        """Return 1 for a true argument."""
        return int(self.my_argument)


def _get_json(url: str) -> Any:
    """Blocking: call it in a thread. Raises OSError."""
    with urlopen(url, timeout=10) as response:
        return json.load(response)
