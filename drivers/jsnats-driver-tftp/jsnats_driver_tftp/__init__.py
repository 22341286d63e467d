"""Files for the device under test by TFTP: `driver.py` has the driver, `client.py` the client.

`packets.py` is the protocol without I/O, `window.py` which blocks to send, `transfer.py` one file on its way to one
client, `server.py` the requests. What it has in common with other servers of files is in
`jsnats_driver_opendal.server`. The driver is imported when it is asked for, so that a client never loads the
exporter's side.
"""

from typing import TYPE_CHECKING

from .client import TftpServerClient

if TYPE_CHECKING:
    from .driver import Tftp

__all__ = ["Tftp", "TftpServerClient"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
