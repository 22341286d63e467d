"""Declared commands of the exporter's host: `driver.py` offers them, `client.py` calls them.

`common.py` is what travels, `process.py` runs one command in a process group of its own, `environment.py` decides what
a command gets from the agent and from its caller. The driver is imported when it is asked for, so that a client never
loads the exporter's side.
"""

from typing import TYPE_CHECKING

from .client import ShellClient
from .common import ShellMethod, ShellPiece, ShellResult

if TYPE_CHECKING:
    from .driver import Shell

__all__ = ["Shell", "ShellClient", "ShellMethod", "ShellPiece", "ShellResult"]


def __getattr__(name: str) -> object:
    if name == "Shell":
        from .driver import Shell

        return Shell
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
