"""SD cards behind an SDWire: `driver.py` has the driver, `mux.py` the USB requests that switch the card, `card.py` the
block device that it is on the host, `client.py` the client.

`bus.py` finds USB devices and translates what goes wrong with them, for other drivers too; `testing.py` has a bus
without hardware. The driver is imported when it is asked for, so that a client never loads pyusb.
"""

from typing import TYPE_CHECKING

from .client import SDWireClient

if TYPE_CHECKING:
    from .driver import SDWire

__all__ = ["SDWire", "SDWireClient"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
