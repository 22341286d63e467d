"""A local TCP port whose connections go to the exporter's service."""

from __future__ import annotations

from dataclasses import dataclass

from jsnats.client import DriverClient

from ..common import place
from ._adapter import Adapter
from ._connections import Connections
from ._listen import listen_tcp


@dataclass
class TcpPortforwardAdapter(Adapter[tuple[str, int]]):
    """Listens on `local_port` of `local_host` (0: any free port) and yields the address as (host, port).

    Each connection is a stream of its own that `method` of the driver opens. One that the driver cannot open is reset,
    and the log says why. Raises ConfigurationError if it cannot listen.
    """

    client: DriverClient
    local_host: str = "127.0.0.1"
    local_port: int = 0
    method: str = "connect"

    async def __aenter__(self) -> tuple[str, int]:
        sockets = await listen_tcp(self.local_host, self.local_port)
        host, port = sockets[0].getsockname()[:2]
        self._connections = Connections.to(self.client, self.method, place(host, port))
        self._connections.listen(*sockets)
        return host, port

    async def __aexit__(self, kind: object, *exc: object) -> None:
        await self._connections.close(at_once=kind is not None)


TcpPortForwardAdapter = TcpPortforwardAdapter
"""The other spelling, as the driver guide has both."""
