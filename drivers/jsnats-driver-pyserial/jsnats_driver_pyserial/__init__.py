"""Serial consoles: `driver.py` has the driver, `port.py` the ports as streams, `client.py` the client.

The driver is imported when it is asked for, so that a client never loads pyserial.
"""

from typing import TYPE_CHECKING

from .client import PySerialClient

if TYPE_CHECKING:
    from .driver import PySerial

__all__ = ["PySerial", "PySerialClient"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
