"""Adapters: context managers, sync and async, that make something local of a driver with a byte stream.

`_tcp.py` a port, `_unix.py` a socket, `_pexpect.py` a pexpect spawn, `_fabric.py` a Fabric connection, `_novnc.py` a
websocket. Below them, `_adapter.py` makes the sync form of the async one, `_connections.py` holds the local connections
of an adapter, `_local.py` is the local end of one, `_relay.py` carries its bytes, `_listen.py` takes ports and sockets.
They work over any client whose driver exports a byte stream, not only over those of this package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._fabric import FabricAdapter
    from ._novnc import NovncAdapter
    from ._pexpect import PexpectAdapter
    from ._tcp import TcpPortforwardAdapter
    from ._unix import UnixPortforwardAdapter

    TcpPortForwardAdapter = TcpPortforwardAdapter

__all__ = [
    "FabricAdapter",
    "NovncAdapter",
    "PexpectAdapter",
    "TcpPortForwardAdapter",
    "TcpPortforwardAdapter",
    "UnixPortforwardAdapter",
]

_WHERE = {
    "FabricAdapter": "_fabric",
    "NovncAdapter": "_novnc",
    "PexpectAdapter": "_pexpect",
    "TcpPortForwardAdapter": "_tcp",
    "TcpPortforwardAdapter": "_tcp",
    "UnixPortforwardAdapter": "_unix",
}


def __getattr__(name: str) -> object:
    # One at a time: each needs a library that the others do not.
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
