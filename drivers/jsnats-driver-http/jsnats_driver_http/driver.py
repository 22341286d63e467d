"""The exporter's side: an HTTP server beside the hardware."""

from __future__ import annotations

import socket
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from jsnats_driver_opendal.server import FileServerInterface, Port

from .server import serve


@dataclass(kw_only=True)
class HttpServer(FileServerInterface):
    """Serves the files below `root_dir` by HTTP, for reading, while it is started.

    `timeout` s after a device has taken nothing, or asked for nothing, its connection is ended.
    """

    root_dir: str = "/var/www"
    port: Port = 8080
    timeout: Annotated[int, Field(ge=1, le=86400)] = 600

    scheme: ClassVar[str] = "http"
    transport: ClassVar[socket.SocketKind] = socket.SOCK_STREAM

    @classmethod
    def client(cls) -> str:
        """Return the client of HTTP servers."""
        return "jsnats_driver_http.client.HttpServerClient"

    async def serve(self, bound: socket.socket) -> None:
        """Serve at a socket that listens, until cancelled."""
        await serve(bound, self.root, self.timeout, self.logger)
