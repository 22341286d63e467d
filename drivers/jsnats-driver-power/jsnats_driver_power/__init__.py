"""Power switches: `driver.py` has the interfaces and the mocks, `client.py` the clients of every power driver.

`common.py` is the reading that travels, `supply.py` the physics of the mocks. A driver of a real switch extends
`SwitchInterface`, or `PowerInterface` if it cannot be asked, and needs no client of its own. The drivers are imported
when they are asked for, so that a client never loads the exporter's side.
"""

from typing import TYPE_CHECKING

from .client import PowerClient, SwitchClient, VirtualPowerClient
from .common import PowerReading

if TYPE_CHECKING:
    from .driver import MockPower, PowerInterface, SwitchInterface, SyncMockPower, VirtualPowerInterface, WithoutMeter

__all__ = [
    "MockPower",
    "PowerClient",
    "PowerInterface",
    "PowerReading",
    "SwitchClient",
    "SwitchInterface",
    "SyncMockPower",
    "VirtualPowerClient",
    "VirtualPowerInterface",
    "WithoutMeter",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
