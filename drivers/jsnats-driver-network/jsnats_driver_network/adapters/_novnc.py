"""A websocket on this machine for a viewer in the browser: noVNC, xterm.js."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from anyio import EndOfStream

from jsnats.client import DriverClient
from jsnats.common.exceptions import ConfigurationError, JsnatsError
from jsnats.sdk import DuplexStream

from ..common import place
from ._adapter import Adapter
from ._listen import listen_tcp

try:
    from websockets.asyncio.server import Server, ServerConnection, serve
    from websockets.exceptions import ConnectionClosed
    from websockets.http11 import Request, Response
    from websockets.typing import Subprotocol
except ImportError as error:
    raise ConfigurationError("NovncAdapter needs websockets: pip install 'jsnats-driver-network[novnc]'") from error

log = logging.getLogger("jsnats.forward")


@dataclass
class NovncAdapter(Adapter[str]):
    """Yields the URL of a websocket whose binary messages are the bytes of the service, one connection for each viewer.

    The path of the URL is a random token, without which nobody gets in, not even a page in this machine's browser.
    Raises ConfigurationError if it cannot listen.
    """

    client: DriverClient
    local_host: str = "127.0.0.1"
    local_port: int = 0
    method: str = "connect"

    async def __aenter__(self) -> str:
        sockets = await listen_tcp(self.local_host, self.local_port)
        self._path = f"/{secrets.token_urlsafe(32)}"
        self._where = place(*sockets[0].getsockname()[:2])
        self._servers = [await self._serve(each) for each in sockets]
        return f"ws://{self._where}{self._path}"

    async def _serve(self, sock: socket.socket) -> Server:
        return await serve(
            self._bridge,
            sock=sock,
            process_request=self._check,
            select_subprotocol=_binary,
            compression=None,
        )

    async def __aexit__(self, kind: object, *exc: object) -> None:
        for server in self._servers:
            server.close()
        for server in self._servers:
            await server.wait_closed()

    def _check(self, viewer: ServerConnection, request: Request) -> Response | None:
        if hmac.compare_digest(request.path.encode(), self._path.encode()):
            return None
        return viewer.respond(HTTPStatus.FORBIDDEN, "the path must be the token of the URL\n")

    async def _bridge(self, viewer: ServerConnection) -> None:
        try:
            async with self.client.stream_async(self.method) as stream:
                await _both_ways(viewer, stream)
        except JsnatsError as error:
            log.warning("%s: closed a viewer: %s", self._where, error)
            await viewer.close(1011, str(error)[:120])


def _binary(viewer: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Take the name under which older noVNC asks for binary messages, and ask for none that it did not offer."""
    return Subprotocol("binary") if "binary" in offered else None


async def _both_ways(viewer: ServerConnection, stream: DuplexStream) -> None:
    """Until the viewer or the service ends. Raises StreamReset."""
    ways = [asyncio.create_task(_up(viewer, stream)), asyncio.create_task(_down(viewer, stream))]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in done:
            way.result()
    finally:
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)


async def _up(viewer: ServerConnection, stream: DuplexStream) -> None:
    try:
        async for message in viewer:
            await stream.send(message.encode() if isinstance(message, str) else message)
    except ConnectionClosed:  # without a farewell: the tab was closed
        return


async def _down(viewer: ServerConnection, stream: DuplexStream) -> None:
    try:
        while True:
            await viewer.send(await stream.receive())
    except (EndOfStream, ConnectionClosed):
        return
