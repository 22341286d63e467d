"""A local socket whose connections go to the exporter's service."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass

from jsnats.client import DriverClient

from ._adapter import Adapter
from ._connections import Connections
from ._listen import listen_unix, remove_unix


@dataclass
class UnixPortforwardAdapter(Adapter[str]):
    """Listens on a socket that only this user may open, yields its path, and removes it at the end.

    Without `path` it is in a directory of its own. Otherwise as `TcpPortforwardAdapter`.
    """

    client: DriverClient
    path: str | os.PathLike[str] | None = None
    method: str = "connect"

    async def __aenter__(self) -> str:
        with ExitStack() as stack:
            if self.path is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="jsnats-"))
                path = os.path.join(folder, "socket")
            else:
                path = os.fspath(self.path)
            listener = listen_unix(path)
            stack.callback(remove_unix, path, os.stat(path).st_ino)
            self._connections = Connections.to(self.client, self.method, path)
            self._connections.listen(listener)
            self._stack = stack.pop_all()
        return path

    async def __aexit__(self, kind: object, *exc: object) -> None:
        await self._connections.close(at_once=kind is not None)
        self._stack.close()
