"""Files of an exporter, everything that is flashed, and what servers of files have in common.

`driver.py` has the driver of a storage, on `files.py` (open files), `paths.py` (what a caller may name) and `faults.py`
(errors); `flasher.py` has the interfaces of flashers and storage muxes, with a mock of each, `storage.py` images on
devices, `medium.py` the device or file that is written, `server.py` the interface of servers. `client.py` is the client
of a storage and `commands.py` its commands, `flasher_client.py` the client of flashers, `server_client.py` that of
servers, `common.py` what travels; `testing.py` runs real clients. The drivers are imported when they are asked for, so
that a client never loads the exporter's side.
"""

from typing import TYPE_CHECKING

from .client import FlasherClient, OpendalClient, OpendalFile, StorageMuxFlasherClient
from .common import Metadata, PresignedRequest

if TYPE_CHECKING:
    from .driver import FlasherInterface, MockFlasher, MockStorageMux, Opendal, StorageMuxInterface

__all__ = [
    "FlasherClient",
    "FlasherInterface",
    "Metadata",
    "MockFlasher",
    "MockStorageMux",
    "Opendal",
    "OpendalClient",
    "OpendalFile",
    "PresignedRequest",
    "StorageMuxFlasherClient",
    "StorageMuxInterface",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
