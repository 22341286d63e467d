"""Network services behind an exporter: `driver.py` has one driver for each way to connect, `client.py` their clients.

`dial.py` connects and words what goes wrong, `sockets.py` and `websocket.py` are the streams that anyio does not have,
`dbus.py` finds a bus. `adapters/` bring a service to the user: a local port, a socket, pexpect, ssh, a screen.
`testing.py` has the services and the stand-in of a stream that the tests use. The drivers are imported when they are
asked for, so that a client never loads the exporter's side.
"""

from typing import TYPE_CHECKING

from .client import DbusNetworkClient, NetworkClient

if TYPE_CHECKING:
    from .driver import (
        DbusNetwork,
        EchoNetwork,
        TcpNetwork,
        UdpNetwork,
        UnixNetwork,
        VsockNetwork,
        WebsocketNetwork,
    )

__all__ = [
    "DbusNetwork",
    "DbusNetworkClient",
    "EchoNetwork",
    "NetworkClient",
    "TcpNetwork",
    "UdpNetwork",
    "UnixNetwork",
    "VsockNetwork",
    "WebsocketNetwork",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
