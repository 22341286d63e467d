"""The board's web server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path


class WebServer:
    """Answers every HTTP request with the board's status as JSON.

    It listens at a socket in the board's folder: two boards never want the same port, and nobody else gets there.
    """

    def __init__(self, status: Callable[[], dict[str, object]]) -> None:
        self._status = status
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    async def open(self, path: Path) -> str:
        """Listen; return the line for the log."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - of a board that was killed
        try:
            self._server = await asyncio.start_unix_server(self._on_client, path)
        except OSError as error:
            return f"httpd: {error}"
        self._path = path
        return "httpd: listening on port 80"

    def close(self) -> None:
        """Cut every connection, as a board without power does."""
        if self._server and self._path:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for writer in self._open:
            writer.transport.abort()

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = json.dumps(self._status()).encode() + b"\n"
            head = f"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # whoever asked is gone, or did not speak HTTP
        finally:
            self._open.discard(writer)
            writer.close()
