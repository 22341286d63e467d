"""Files for the device under test by HTTP: `driver.py` has the driver, `server.py` the server, `client.py` the client.

What it has in common with other servers of files is in `jsnats_driver_opendal.server`. The driver is imported when it
is asked for, so that a client never loads the exporter's side.
"""

from typing import TYPE_CHECKING

from .client import HttpServerClient

if TYPE_CHECKING:
    from .driver import HttpServer

__all__ = ["HttpServer", "HttpServerClient"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
