"""probe-rs's gdb server for one connection: started for it, gone with it."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import ByteStream, SocketStream

from jsnats_driver_network.dial import dial_tcp
from jsnats_driver_shell.process import Process

from .output import Told, failure
from .tool import Tool

_POLL_S = 0.05
_PACKET = re.compile(rb"(\$[^$#]*#[0-9a-fA-F]{2})")
_LEAVE_S = 1.0
"""How long the server may take to see that gdb has gone, upon which it lets the target run."""
_DEATH_S = 2.0
"""How long a server that closes the connection may take to be dead."""
_END_S = 3.0
"""How long after SIGTERM it may take to leave target and probe in order, until it is killed."""


@asynccontextmanager
async def gdb_connection(tool: Tool) -> AsyncGenerator[ByteStream, None]:
    """Start a server and connect to it.

    Raises ConnectionError, with what probe-rs says, if it ends, before gdb is served or while it is; TimeoutError if
    it does not serve within `timeout_s` of the tool; FileNotFoundError.
    """
    port, told = _free_port(), Told()
    async with tool.started("gdb", "--gdb-connection-string", f"127.0.0.1:{port}") as process:
        code = asyncio.create_task(_exit_code(process, told))
        try:
            async with await _dialled(port, code, told, tool.timeout_s) as stream:
                yield _Served(stream, code, told)
                await _leave(stream)
        finally:
            await process.terminate(_END_S)
            code.cancel()


class Once:
    """Leaves out the first packet where it comes again: gdb says it every 2 s while the server starts. Each would be
    answered, and gdb takes the second answer for that to its next packet."""

    def __init__(self) -> None:
        self._first = b""
        self._over = False

    def __call__(self, data: bytes) -> bytes:
        """What of it is to be sent."""
        return data if self._over else b"".join(part for part in _PACKET.split(data) if self._is_new(part))

    def _is_new(self, part: bytes) -> bool:
        if not part.startswith(b"$"):
            return True
        if part == self._first:
            return self._over
        self._over, self._first = bool(self._first), self._first or part
        return True


class _Served(ByteStream):
    """The connection, whose end is an error when it is the end of the server."""

    def __init__(self, stream: SocketStream, code: asyncio.Task[int], told: Told) -> None:
        self._stream, self._code, self._told = stream, code, told
        self._left = asyncio.get_running_loop().create_future()
        self._once = Once()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return what has come. Raises ConnectionError, EndOfStream."""
        try:
            return await self._stream.receive(max_bytes)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            # A server that lives closes it behind `detach`, upon which gdb closes it as well.
            await asyncio.wait({self._code, self._left}, timeout=_DEATH_S, return_when=asyncio.FIRST_COMPLETED)
            if self._code.done():
                raise _ended(self._code, self._told) from None
            raise

    async def send(self, item: bytes) -> None:
        """Send all of it."""
        if rest := self._once(item):
            await self._stream.send(rest)

    async def send_eof(self) -> None:
        """gdb has left."""
        if not self._left.done():
            self._left.set_result(None)
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close both directions."""
        await self._stream.aclose()


async def _exit_code(process: Process, told: Told) -> int:
    code = 0
    async for piece in process.pieces():
        told.add(piece.stderr)
        code = piece.returncode or 0
    return code


async def _dialled(port: int, code: asyncio.Task[int], told: Told, timeout_s: float) -> SocketStream:
    """Connect as soon as the server listens: it says that it will, not that it does."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not code.done():
                with suppress(ConnectionError):
                    return await dial_tcp("127.0.0.1", port, timeout_s)
                await asyncio.sleep(_POLL_S)
    if code.done():
        raise _ended(code, told)
    raise TimeoutError(f"probe-rs gdb did not serve within {timeout_s:g} s")


def _ended(code: asyncio.Task[int], told: Told) -> ConnectionError:
    # 0 when its port is taken or the target is lost: it prints the error, and that is all.
    return ConnectionError(str(failure("gdb", code.result(), told.reason())))


async def _leave(stream: SocketStream) -> None:
    """Tell the server that gdb has gone, and wait until it has closed the connection."""
    with suppress(OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        with anyio.move_on_after(_LEAVE_S):
            await stream.send_eof()
            while True:
                await stream.receive()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
