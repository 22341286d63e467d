"""Streams over sockets of kinds that anyio does not know, or does not know well."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from anyio import BrokenResourceError, EndOfStream
from anyio.abc import ByteStream, ObjectStream

T = TypeVar("T")

AF_VSOCK: int | None = getattr(socket, "AF_VSOCK", None)


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


class RawStream(ByteStream):
    """A connected, non-blocking socket of any family. One task may receive while another one sends."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return what has come. Raises EndOfStream, BrokenResourceError in the system's words."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self._raw, max_bytes)
        except OSError as error:
            raise BrokenResourceError(_words(error)) from error
        if not data:
            raise EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Send all of it. Raises BrokenResourceError in the system's words."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._raw, item)
        except OSError as error:
            raise BrokenResourceError(_words(error)) from error

    async def send_eof(self) -> None:
        """Say that nothing more is sent."""
        self._raw.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close both directions."""
        self._raw.close()


class DatagramStream(ObjectStream[bytes]):
    """A connected UDP socket: every item is one datagram. asyncio's own transport drops empty ones before 3.13.

    That nobody is there now, which the kernel tells after a datagram was refused, is no error: a board may be booting.
    """

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw

    async def receive(self) -> bytes:
        """Return the next datagram. Raises BrokenResourceError in the system's words."""
        return await self._ask(lambda loop: loop.sock_recv(self._raw, 65536))

    async def send(self, item: bytes) -> None:
        """Send one datagram. Raises BrokenResourceError in the system's words."""
        await self._ask(lambda loop: loop.sock_sendall(self._raw, item))

    async def _ask(self, work: Callable[[asyncio.AbstractEventLoop], Awaitable[T]]) -> T:
        while True:
            try:
                return await work(asyncio.get_running_loop())
            except ConnectionRefusedError:
                continue
            except OSError as error:
                raise BrokenResourceError(_words(error)) from error

    async def send_eof(self) -> None:
        """Do nothing: the service goes on."""

    async def aclose(self) -> None:
        """Give up the local port."""
        self._raw.close()


async def connect_udp(host: str, port: int) -> DatagramStream:
    """Take a local port for datagrams to the first address of `host` that there is a way to. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    failed = OSError("the name has no address")
    for family, kind, protocol, _, address in found:
        raw = socket.socket(family, kind, protocol)
        try:
            raw.setblocking(False)
            raw.connect(address)  # at once: nothing is sent
        except OSError as error:
            raw.close()
            failed = error
        else:
            return DatagramStream(raw)
    raise failed


async def connect_vsock(cid: int, port: int) -> RawStream:
    """Connect to a port of a virtual machine. Raises OSError, also where the kernel has no vsock."""
    assert AF_VSOCK is not None
    raw = socket.socket(AF_VSOCK, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (cid, port))
    except BaseException:
        raw.close()
        raise
    return RawStream(raw)
