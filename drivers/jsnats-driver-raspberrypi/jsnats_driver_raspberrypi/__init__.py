"""Pins of a Raspberry Pi: `driver.py` has the drivers, `pins.py` what they do with gpiozero.

Interface and clients are those of all digital pins, in jsnats-driver-gpiod. The drivers are imported when they are
asked for, so that a client never loads gpiozero.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .driver import DigitalInput, DigitalOutput, PowerSwitch

__all__ = ["DigitalInput", "DigitalOutput", "PowerSwitch"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
