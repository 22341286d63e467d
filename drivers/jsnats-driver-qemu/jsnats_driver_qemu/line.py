"""The serial line of a virtual board, as a stream of bytes."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import suppress

from anyio import BrokenResourceError, EndOfStream
from anyio.abc import ByteStream

from jsnats_driver_network.sockets import RawStream


class Line(ByteStream):
    """The lines of one run of QEMU after the other, as one: no byte of the first instant or of the last is missed."""

    def __init__(self) -> None:
        self._runs: deque[RawStream] = deque()
        self._plugged = asyncio.Event()

    def plug(self) -> socket.socket:
        """A new line. Returns the end for QEMU, which is the caller's to close."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._runs.append(RawStream(ours))
        self._plugged.set()
        return theirs

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return what the board has said, at least a byte."""
        while True:
            while not self._runs:
                self._plugged.clear()
                await self._plugged.wait()
            run = self._runs[0]
            try:
                return await run.receive(max_bytes)
            except (EndOfStream, BrokenResourceError):  # all of it was read: it is off
                self._runs.popleft()
                await run.aclose()

    async def send(self, item: bytes) -> None:
        """Write; what is written while the board is off is lost, as on a wire."""
        if self._runs:
            with suppress(BrokenResourceError):
                await self._runs[-1].send(item)

    async def send_eof(self) -> None:
        """A serial line has no end."""

    async def aclose(self) -> None:
        """Leave the lines as they are: whoever reads next goes on."""

    async def unplug(self) -> None:
        """Let go of them, read or not."""
        while self._runs:
            await self._runs.popleft().aclose()
