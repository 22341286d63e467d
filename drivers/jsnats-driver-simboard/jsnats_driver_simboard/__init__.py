"""A simulated board: `driver.py` has the drivers, `machine.py` the process and the supply behind them.

The process is `python -m jsnats_driver_simboard`: `__main__.py` is its power cable, `board.py` what runs while there is
power, `line.py` its end of the serial line, `web.py` its web server. It uses the standard library only; everything here
is imported when it is asked for, so that the board is there at once.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import CompositeClient
    from .driver import SimulatedBoard

__all__ = ["CompositeClient", "SimulatedBoard"]


def __getattr__(name: str) -> object:
    if name == "SimulatedBoard":
        from .driver import SimulatedBoard

        return SimulatedBoard
    if name == "CompositeClient":
        from .client import CompositeClient

        return CompositeClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
