"""GPIO lines: `driver.py` has the drivers, `line.py` a line that is held, `chips.py` finds its chip.

`interface.py` and `client.py` are what every driver of digital pins shares, `edges.py` hands their edges on, and
`common.py` is the edge that travels. `testing.py` is a chip that needs no hardware, and `contract.py` what is asked of
every such driver. The drivers are imported when they are asked for, so that a client never loads the exporter's side.
"""

from typing import TYPE_CHECKING

from .client import DigitalInputClient, DigitalOutputClient
from .common import Edge

if TYPE_CHECKING:
    from .driver import DigitalInput, DigitalOutput, PowerSwitch
    from .interface import DigitalInputInterface, DigitalOutputInterface

__all__ = [
    "DigitalInput",
    "DigitalInputClient",
    "DigitalInputInterface",
    "DigitalOutput",
    "DigitalOutputClient",
    "DigitalOutputInterface",
    "Edge",
    "PowerSwitch",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver, interface

        return getattr(interface if name.endswith("Interface") else driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
