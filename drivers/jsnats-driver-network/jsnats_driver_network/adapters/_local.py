"""The local end of one forwarded connection, spliced to its stream: bytes pass without a task or a queue between.

A reader, a writer and two tasks for each connection cost more than the broker does: only a relay at the level of
asyncio's protocols keeps the echo of a small message as short as a tunnel in one process has it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from jsnats.schemas import CHUNK, CLOSE, END, MESSAGE
from jsnats.sdk import DuplexStream, Pipe, StreamReset, Taker, chunks

_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


class LocalEnd(asyncio.Protocol, Taker):
    """A local connection. `made` is called with it once it stands, and sees to it that `carry` runs.

    Until then, what the local side says waits in the kernel.
    """

    transport: asyncio.Transport
    _pipe: Pipe

    def __init__(self, made: Callable[[LocalEnd], None]) -> None:
        self._made = made
        self._mark = ""
        self._waiting: deque[tuple[bytes | memoryview, str]] = deque()  # no room for it in the stream
        self._paused = True
        self._ended = self._said_end = False
        self._full = False  # the local side reads too slowly
        self._unused = 0
        self._over = asyncio.Event()
        self._error: Exception | None = None
        self.closed = asyncio.Event()
        self.left = self._carrying = False

    async def carry(self, stream: DuplexStream) -> None:
        """Carry bytes both ways until both directions have ended, the local side is gone, or `leave`.

        What the local side said before is sent by then; the caller closes the stream. Raises StreamReset.
        """
        self._pipe = stream.pipe
        self._mark = MESSAGE if stream.messages else ""
        self._carrying = True
        try:
            stream.splice(self)
            if not self._over.is_set():
                self._pause(False)
            await self._over.wait()
        finally:
            self._carrying = False
        if self._error:
            raise self._error

    def leave(self) -> bool:
        """Stop taking what the local side says, so that `carry` returns; say whether it was at work."""
        self.left = True
        self._over.set()
        self._pause(True)
        return self._carrying

    def reset(self) -> None:
        """Cut the connection: the local side sees a reset and not an end. Does nothing to a closed one."""
        if self._is_tcp() and self._raw().fileno() >= 0:
            self._raw().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self.transport.abort()

    # ------------------------------------------------------------------ what the local side does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin. asyncio sets TCP_NODELAY only on sockets that were made with the number of the protocol."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._is_tcp():
            self._raw().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.pause_reading()
        self._made(self)

    def data_received(self, data: bytes) -> None:
        """Send it if there is room, else read no more until there is."""
        if self._over.is_set():
            return
        if len(data) <= CHUNK and not self._waiting and self._pipe.may_send:
            self._pipe.send(data, self._mark)
            return
        self._waiting.extend(chunks(data, self._mark))
        self.on_room()

    def eof_received(self) -> bool:
        """Half-close: the other direction stays open."""
        self._ended = True
        if not self._over.is_set():
            self.on_room()
        return True

    def pause_writing(self) -> None:
        """Hold back the exporter: what it sends from now on counts as unread."""
        self._full = True

    def resume_writing(self) -> None:
        """Let it go on."""
        self._full = False
        unused, self._unused = self._unused, 0
        self._pipe.use(unused)

    def connection_lost(self, exc: Exception | None) -> None:
        """The local side is gone. What was read of it is still sent."""
        self.closed.set()
        if not self._waiting:
            self._over.set()

    # ------------------------------------------------------------------ what the stream does

    def on_bytes(self, body: bytes, mark: str) -> None:
        """Write it at once."""
        size = len(body) + bool(mark)
        if self.transport.is_closing():
            self._pipe.use(size)
            return
        self.transport.write(body)
        if mark in (END, CLOSE):
            with suppress(OSError):  # the local side has reset it, which the loop is about to tell
                self.transport.write_eof()
        if self._full:
            self._unused += size
        else:
            self._pipe.use(size)

    def on_room(self) -> None:
        """Send what waits, and read on when nothing does any more."""
        while self._waiting and self._pipe.may_send:
            self._pipe.send(*self._waiting.popleft())
        if self._waiting:
            self._pause(True)
        elif self.closed.is_set():
            self._over.set()
        elif self._ended:
            self._end()
        elif not self._over.is_set():
            self._pause(False)

    def on_over(self, error: Exception | None) -> None:
        """The exporter's end is over."""
        if error:
            self._error = error if isinstance(error, StreamReset) else StreamReset(str(error))
            self._error.__cause__ = error
        self._over.set()

    def _raw(self) -> socket.socket:
        raw: socket.socket = self.transport.get_extra_info("socket")
        return raw

    def _is_tcp(self) -> bool:
        return self._raw().family != socket.AF_UNIX

    def _end(self) -> None:
        if not self._said_end:
            self._said_end = True
            self._pipe.send(b"", END)

    def _pause(self, paused: bool) -> None:
        if paused != self._paused and not self.transport.is_closing() and not self._ended:
            self._paused = paused
            (self.transport.pause_reading if paused else self.transport.resume_reading)()
