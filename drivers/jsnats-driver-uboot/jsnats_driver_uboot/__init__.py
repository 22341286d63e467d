"""The U-Boot of a board: `driver.py` has the driver, `client.py` the client and `commands.py` those of `j`.

`shell.py` is the dialogue with U-Boot, `link.py` the console it goes over, `env.py` how the environment is written and
read, `common.py` what travels. `testing.py` has boards that are U-Boot in QEMU. The driver is imported when it is asked
for, so that a client never loads the exporter's side.
"""

from typing import TYPE_CHECKING

from .client import UbootConsoleClient
from .common import CommandResult, DhcpInfo, UbootCommandError

if TYPE_CHECKING:
    from .driver import UbootConsole

__all__ = ["CommandResult", "DhcpInfo", "UbootCommandError", "UbootConsole", "UbootConsoleClient"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
