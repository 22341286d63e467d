"""Virtual devices in Corellium: `driver.py` has the device with its power and its console, `client.py` its client.

`api.py` is what is asked of Corellium, `device.py` the way from one state of a device to another, `testing.py` a
Corellium for tests. The driver is imported when it is asked for, so that a client never loads requests.
"""

from typing import TYPE_CHECKING

from .client import CorelliumClient

if TYPE_CHECKING:
    from .driver import Corellium

__all__ = ["Corellium", "CorelliumClient"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
