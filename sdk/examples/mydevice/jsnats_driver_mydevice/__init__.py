"""Every pattern of the driver guide: `driver.py` runs at the hardware, `client.py` and `adapter.py` where the user is.

The driver is imported when it is asked for, so that a client never loads a hardware library.
"""

from typing import TYPE_CHECKING

from .client import MyDeviceClient, MyHarnessClient, MyPortforwardClient

if TYPE_CHECKING:
    from .driver import MyDevice, MyHarness, MyPortforward

__all__ = ["MyDevice", "MyDeviceClient", "MyHarness", "MyHarnessClient", "MyPortforward", "MyPortforwardClient"]


def __getattr__(name: str) -> object:
    if name in ("MyDevice", "MyHarness", "MyPortforward"):
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
