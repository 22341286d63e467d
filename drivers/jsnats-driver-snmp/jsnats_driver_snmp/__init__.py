"""Outlets of PDUs over SNMP: `driver.py` has the driver, `session.py` the protocol, `client.py` the client.

`common.py` are the names that exporter.yaml uses. The driver is imported when it is asked for, so that a client never
loads pysnmp.
"""

from typing import TYPE_CHECKING

from .client import SNMPServerClient

if TYPE_CHECKING:
    from .driver import SNMPServer

__all__ = ["SNMPServer", "SNMPServerClient"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
