"""EnerGenie's socket strips with a network port: `driver.py` is one socket, `client.py` its client.

`strip.py` speaks with the strip, which has a web page for people and one session at a time. `testing.py` is a strip
that needs no hardware, faults included. The driver is imported when it is asked for, so that a client never loads the
exporter's side.
"""

from typing import TYPE_CHECKING

from .client import EnerGenieClient

if TYPE_CHECKING:
    from .driver import EnerGenie

__all__ = ["EnerGenie", "EnerGenieClient"]


def __getattr__(name: str) -> object:
    if name == "EnerGenie":
        from .driver import EnerGenie

        return EnerGenie
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
