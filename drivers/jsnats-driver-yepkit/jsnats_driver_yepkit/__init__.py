"""Yepkit's USB hubs whose ports can be switched: `driver.py` is a port, or all; its client is that of every switch.

`hub.py` speaks with the hub's HID device. `testing.py` is a hub that needs no hardware, faults included. The driver is
imported when it is asked for, so that nobody else loads pyusb.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .driver import Ykush

__all__ = ["Ykush"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
