"""An adapter: a context manager around a client that other code hands over."""

from dataclasses import dataclass

from .client import MyDeviceClient


@dataclass(kw_only=True)
class MyAdapter:
    """Powers the device of `client` for the length of a `with` block."""

    client: MyDeviceClient

    def __enter__(self) -> MyDeviceClient:
        self.client.power_on()
        return self.client

    def __exit__(self, *exc: object) -> None:
        self.client.power_off()
