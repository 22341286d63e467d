"""An HTTP server in the agent's event loop: uvicorn, on Starlette's files."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BLOCK: Final = 1 << 20
"""Bytes that are read at a time, in a thread: with Starlette's 64 KiB it is half as fast."""
_END_S: Final = 2.0
"""How long the answers of connections that are gone may take to see that; a slow disk can hold one."""


async def serve(bound: socket.socket, root: Path, timeout_s: int, logger: logging.Logger) -> None:
    """Serve the files below `root` at a socket that listens, until cancelled: then connections are aborted."""
    _let_go_of_the_silent(bound, timeout_s)
    server = _Server(
        uvicorn.Config(
            _logged(Starlette(routes=[Mount("/", _Files(directory=root, check_dir=False))]), logger),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=timeout_s,
        )
    )
    try:
        await server.serve(sockets=[bound])
    finally:
        await server.abort(bound)


class _Server(uvicorn.Server):
    """One of many things in its process: signals are the agent's, and its end is a cancellation."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def abort(self, bound: socket.socket) -> None:
        """Close what listens, and all connections, whatever is under way: that ends by itself then."""
        if self.started:
            for server in self.servers:
                server.close()
        else:  # cancelled in the middle of asyncio's create_server, which forgets that
            asyncio.get_running_loop().remove_reader(bound)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if tasks := set(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=_END_S)


class _Files(StaticFiles):
    """Files that may be read. No path and no symbolic link leads out of the root."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        try:
            found = super().lookup_path(path)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return "", None
            raise
        if found[1] and not os.access(found[0], os.R_OK):
            raise HTTPException(403)
        return found

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        if isinstance(response, FileResponse):
            response.chunk_size = _BLOCK
        return response


def _logged(app: ASGIApp, logger: logging.Logger) -> ASGIApp:
    """The same, with a line for each request: who asked for what, the status, and how many bytes of a body went out."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        status, sent, end = 0, 0, ", broken off"

        async def counted(message: Message) -> None:
            nonlocal status, sent, end
            await send(message)
            status = message.get("status", status)
            sent += len(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                end = ""

        try:
            await app(scope, receive, counted)
        finally:
            host = (scope.get("client") or ("?",))[0]
            logger.info("%s %r: %s, %s bytes to %s%s", scope["method"], scope["path"], status, sent, host, end)

    return logged


def _let_go_of_the_silent(bound: socket.socket, timeout_s: int) -> None:
    """Linux ends a connection whose peer acknowledges nothing, or takes nothing; what it accepts inherits that."""
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, min(timeout_s, 32767)))
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_s * 1000)
