"""Serial ports as anyio streams, so that no read and no write of a device holds up the event loop.

A terminal device of this host is read by the loop itself; what pyserial speaks over the network or in memory blocks,
and gets a thread; a raw TCP device server needs no pyserial at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import termios
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import serial
from anyio.abc import ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint

READ: Final = 65536
FULL: Final = 2048
GATHER_S: Final = 0.005
"""A device that speaks faster than this, in less than FULL bytes, is left to gather some: each read has its price."""
POLL_S: Final = 0.25
"""How long a thread blocks in pyserial before it looks whether its port was closed."""
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


class _Terminal(serial.Serial):  # type: ignore[misc]  # pyserial has no types
    """pyserial's port, which throws away what the device said before it was opened: here that is output as well."""

    def _reset_input_buffer(self) -> None:
        pass


class TerminalStream(ByteStream):
    """A terminal device of this host: a serial port or a pty."""

    def __init__(self, port: serial.Serial) -> None:
        self.port = port
        self._fd: int = port.fd
        self._read_at = float("-inf")
        self._flowing = False

    @classmethod
    async def open(cls, path: str, baudrate: int, *, keep_dtr: bool) -> TerminalStream:
        """Open the port for ourselves alone. Raises OSError; ValueError for a speed that it cannot have."""
        return cls(await anyio.to_thread.run_sync(_open_terminal, path, baudrate, keep_dtr))

    async def receive(self, max_bytes: int = READ) -> bytes:
        """Return what the device has said, at least a byte."""
        await (anyio.sleep(GATHER_S) if self._flowing else checkpoint())
        while True:
            try:
                data = os.read(self._fd, max_bytes)
            except BlockingIOError:
                await anyio.wait_readable(self._fd)
                continue
            if not data:
                raise anyio.EndOfStream
            now = anyio.current_time()
            self._flowing = now - self._read_at < GATHER_S and len(data) < FULL
            self._read_at = now
            return data

    async def send(self, item: bytes) -> None:
        """Write; returns when the port has taken it all."""
        rest = memoryview(item)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._fd)
        await checkpoint()

    async def send_eof(self) -> None:
        """A terminal has no end."""

    async def aclose(self) -> None:
        """Close the port; what it has not sent yet is dropped."""
        if self.port.is_open:
            anyio.notify_closing(self._fd)
            await anyio.to_thread.run_sync(_close, self.port, abandon_on_cancel=True)


def _open_terminal(path: str, baudrate: int, keep_dtr: bool) -> serial.Serial:
    port = _Terminal(path, baudrate, exclusive=True)
    try:
        attributes = termios.tcgetattr(port.fd)
        attributes[6][termios.VMIN] = 1  # with pyserial's 0, "nothing yet" reads like the end
        if keep_dtr:
            attributes[2] &= ~termios.HUPCL
        termios.tcsetattr(port.fd, termios.TCSANOW, attributes)
    except termios.error as error:
        port.close()
        raise OSError(*error.args) from error
    return port


def _close(port: serial.Serial) -> None:
    with contextlib.suppress(OSError, termios.error, serial.SerialException):
        port.reset_output_buffer()  # else closing waits for a device that takes nothing
    port.close()


class ThreadStream(ByteStream):
    """A port of pyserial's that only knows how to block: `loop://` and `rfc2217://`."""

    def __init__(self, port: serial.SerialBase) -> None:
        self.port = port
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[bytes] = deque()
        self._came = asyncio.Event()
        self._error: Exception | None = None
        threading.Thread(target=self._read, name=f"serial-{port.name}", daemon=True).start()

    @classmethod
    async def open(cls, url: str, baudrate: int) -> ThreadStream:
        """Connect. Raises OSError; ValueError for an address that cannot be."""
        return cls(await anyio.to_thread.run_sync(_open_url, url, baudrate, abandon_on_cancel=True))

    async def receive(self, max_bytes: int = READ) -> bytes:
        """Return what the device has said, at least a byte."""
        while not self._chunks:
            if self._error:
                raise self._error
            self._came.clear()
            await self._came.wait()
        chunk = self._chunks.popleft()
        if len(chunk) > max_bytes:
            self._chunks.appendleft(chunk[max_bytes:])
        return chunk[:max_bytes]

    async def send(self, item: bytes) -> None:
        """Write; returns when the port has taken it all."""
        await anyio.to_thread.run_sync(self.port.write, item, abandon_on_cancel=True)

    async def send_eof(self) -> None:
        """A serial line has no end."""

    async def aclose(self) -> None:
        """Close the port; what it has not sent yet is dropped."""
        await anyio.to_thread.run_sync(self.port.close, abandon_on_cancel=True)

    def _read(self) -> None:
        error: Exception = anyio.EndOfStream()
        try:
            while self.port.is_open:
                if data := self.port.read(1):
                    self._tell(data + self.port.read(min(self.port.in_waiting, READ)))
        except (OSError, TypeError, AttributeError) as raised:  # the last two when it is closed meanwhile
            error = raised if isinstance(raised, OSError) else error
        self._error = error
        self._tell(b"")

    def _tell(self, data: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._arrived, data)

    def _arrived(self, data: bytes) -> None:
        if data:
            self._chunks.append(data)
        self._came.set()


def _open_url(url: str, baudrate: int) -> Any:
    return serial.serial_for_url(url, baudrate=baudrate, timeout=POLL_S)


async def open_socket(url: str) -> ByteStream:
    """Connect to a raw TCP device server, `socket://host:port`. Raises OSError."""
    where = urlsplit(url)
    stream = await anyio.connect_tcp(where.hostname or "localhost", where.port or 0)
    raw = stream.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _available(_KEEPALIVE).items():
        raw.setsockopt(socket.IPPROTO_TCP, name, value)
    return stream


def _available(options: Mapping[str, int]) -> dict[int, int]:
    return {getattr(socket, name): value for name, value in options.items() if hasattr(socket, name)}


class Paced(ByteStream):
    """A stream that is written `cps` characters a second: for a device that loses what comes faster."""

    def __init__(self, stream: ByteStream, cps: float) -> None:
        self._stream = stream
        self._period_s = 1 / cps
        self._free_at = 0.0

    async def receive(self, max_bytes: int = READ) -> bytes:
        """Return what the device has said, at least a byte."""
        return await self._stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        """Write; returns when the port has taken it all."""
        for at in range(len(item)):
            now = anyio.current_time()
            if self._free_at > now:
                await anyio.sleep(self._free_at - now)
            await self._stream.send(item[at : at + 1])
            self._free_at = max(self._free_at, now) + self._period_s

    async def send_eof(self) -> None:
        """As the stream's."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the port; what it has not sent yet is dropped."""
        await self._stream.aclose()
