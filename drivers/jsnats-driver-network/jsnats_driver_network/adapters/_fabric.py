"""ssh to the exporter's service with Fabric."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jsnats.client import DriverClient
from jsnats.common.exceptions import ConfigurationError

from ._adapter import Adapter
from ._tcp import TcpPortforwardAdapter

try:
    from fabric import Connection  # type: ignore[import-untyped]
except ImportError as error:
    raise ConfigurationError("FabricAdapter needs fabric: pip install 'jsnats-driver-network[ssh]'") from error


@dataclass
class FabricAdapter(Adapter[Connection]):
    """Yields a `fabric.Connection` over a forward of its own, which may be closed and opened again, as over a reboot.

    `connect_kwargs` go to paramiko: `{"key_filename": ...}`, `{"password": ...}`. Host keys are not compared with those
    of an earlier time: a board gets a new one with each image.
    """

    client: DriverClient
    user: str | None = None
    method: str = "connect"
    connect_kwargs: dict[str, Any] = field(default_factory=dict)

    async def __aenter__(self) -> Connection:
        self._forward = TcpPortforwardAdapter(client=self.client, method=self.method)
        host, port = await self._forward.__aenter__()
        self._connection = Connection(host, user=self.user, port=port, connect_kwargs=self.connect_kwargs)
        return self._connection

    async def __aexit__(self, kind: object, *exc: object) -> None:
        self._connection.close()
        await self._forward.__aexit__(kind, *exc)
