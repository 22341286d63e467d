"""The exporter's service as a pexpect spawn."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

from jsnats.client import DriverClient
from jsnats.common.exceptions import ConfigurationError
from jsnats.sdk import DuplexStream

from ._adapter import Adapter
from ._connections import Connections

try:
    from pexpect.fdpexpect import fdspawn
except ImportError as error:
    raise ConfigurationError("PexpectAdapter needs pexpect: pip install 'jsnats-driver-network[pexpect]'") from error


@dataclass
class PexpectAdapter(Adapter["fdspawn[Any]"]):
    """Yields a `pexpect.fdpexpect.fdspawn` over one connection; `options` are its keyword arguments.

    The end of the connection is pexpect.EOF; if it was a reset, the log says why. Raises CallError and BrokerError.
    """

    client: DriverClient
    method: str = "connect"
    options: dict[str, Any] = field(default_factory=dict)

    async def __aenter__(self) -> fdspawn[Any]:
        stream = await self.client.open_stream_async(self.method)
        ours, theirs = socket.socketpair()
        self._connections = Connections(lambda: _opened(stream), f"pexpect over {self.client!r}")
        ours.setblocking(False)
        await self._connections.take(ours)
        self._spawn = fdspawn(theirs.detach(), **self.options)
        return self._spawn

    async def __aexit__(self, kind: object, *exc: object) -> None:
        await self._connections.close(at_once=kind is not None)
        self._spawn.close()


async def _opened(stream: DuplexStream) -> DuplexStream:
    return stream
