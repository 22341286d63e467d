"""The exporter's side: a TFTP server beside the hardware."""

from __future__ import annotations

import socket
from typing import ClassVar

from pydantic.dataclasses import dataclass

from jsnats_driver_opendal.server import FileServerInterface, Port

from .server import serve


@dataclass(kw_only=True)
class Tftp(FileServerInterface):
    """Serves the files below `root_dir` by TFTP, for reading, while it is started."""

    root_dir: str = "/var/lib/tftpboot"
    port: Port = 69

    scheme: ClassVar[str] = "tftp"
    transport: ClassVar[socket.SocketKind] = socket.SOCK_DGRAM

    @classmethod
    def client(cls) -> str:
        """Return the client of TFTP servers."""
        return "jsnats_driver_tftp.client.TftpServerClient"

    async def serve(self, bound: socket.socket) -> None:
        """Serve at a socket until cancelled."""
        await serve(bound, self.root, self.logger)
