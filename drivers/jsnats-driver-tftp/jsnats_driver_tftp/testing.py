"""For tests: U-Boot in QEMU, whose network is this host's, and a UDP relay that loses what it is told to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jsnats.testing import until_async
from jsnats_driver_uboot.testing import QemuPower

PROMPT = b"\n=> "


class UBoot:
    """A board in its bootloader."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def run(self, command: str, limit_s: float = 30) -> str:
        """Give a command, and return what it says, with the echo. Raises TimeoutError."""
        self._writer.write(command.encode() + b"\r")
        async with asyncio.timeout(limit_s):
            return (await self._reader.readuntil(PROMPT)).decode("utf-8", "replace")

    async def interrupt(self) -> None:
        """Stop it from booting."""
        async with asyncio.timeout(40):
            await self._reader.readuntil(b"autoboot")
            self._writer.write(b" ")
            await self._reader.readuntil(PROMPT)


@asynccontextmanager
async def uboot(folder: Path) -> AsyncGenerator[UBoot, None]:
    """Start one; what it sends to an address of 127.0.0.0/8 comes to this host."""
    serial = folder / "serial"
    power = QemuPower(console=str(serial))
    power.on()
    try:
        await until_async(serial.exists, 40)
        reader, writer = await asyncio.open_unix_connection(serial)
        try:
            board = UBoot(reader, writer)
            await board.interrupt()
            yield board
        finally:
            writer.transport.abort()
    finally:
        power.off()


Copies = Callable[[bytes], int]
"""How often a datagram arrives: 0 for one that is lost."""


@asynccontextmanager
async def relay(port: int, copies: Copies) -> AsyncGenerator[int, None]:
    """A port of loopback from which datagrams go to the server at `port` and back, as often as `copies` says."""
    found = _Relay(port, copies)
    try:
        yield found.open()[1]
    finally:
        found.close()


class _Relay:
    """One socket for the clients, and one behind it for each of them, which talks to whom it has heard last."""

    def __init__(self, port: int, copies: Copies) -> None:
        self._server = ("127.0.0.1", port)
        self._copies = copies
        self._front: socket.socket | None = None
        self._backs: dict[Any, socket.socket] = {}
        self._heard: dict[Any, Any] = {}
        self._open: list[socket.socket] = []

    def open(self) -> tuple[str, int]:
        """Listen, and say where."""
        self._front = self._new(self._from_client)
        host, port = self._front.getsockname()
        return host, port

    def close(self) -> None:
        for each in self._open:
            asyncio.get_running_loop().remove_reader(each)
            each.close()

    def _new(self, reader: Callable[[socket.socket], None]) -> socket.socket:
        made = socket.socket(type=socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 0))
        made.setblocking(False)
        asyncio.get_running_loop().add_reader(made, reader, made)
        self._open.append(made)
        return made

    def _from_client(self, front: socket.socket) -> None:
        datagram, client = front.recvfrom(1 << 16)
        if client not in self._backs:
            self._backs[client] = self._new(partial(self._from_server, client))
        to = self._server if datagram[:2] == b"\0\1" else self._heard.get(client, self._server)
        for _ in range(self._copies(datagram)):
            self._backs[client].sendto(datagram, to)

    def _from_server(self, client: Any, back: socket.socket) -> None:
        datagram, self._heard[client] = back.recvfrom(1 << 16)
        assert self._front
        for _ in range(self._copies(datagram)):
            self._front.sendto(datagram, client)


class Client:
    """A client that is told each step. `peer` is whom it heard last."""

    def __init__(self, host: str, port: int) -> None:
        self.peer: Any = (host, port)
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)

    async def send(self, datagram: bytes) -> None:
        """To whom it heard last; at first, to the server's port."""
        await asyncio.get_running_loop().sock_sendto(self.socket, datagram, self.peer)

    async def receive(self, limit_s: float = 20) -> bytes:
        """The next datagram. Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            datagram, self.peer = await asyncio.get_running_loop().sock_recvfrom(self.socket, 1 << 16)
        return datagram

    async def fetch(self, name: str, *, window: int, block_size: int = 512) -> bytes:
        """A file, in windows as RFC 7440 has it: the last block of each is acknowledged, and the last in order as soon
        as one is missing, or nothing comes for half a second."""
        request = f"{name}\0octet\0windowsize\0{window}\0blksize\0{block_size}\0".encode()
        await self.send(b"\0\1" + request)
        while await self.receive() != f"\0\6windowsize\0{window}\0blksize\0{block_size}\0".encode():
            pass
        data, number, told = b"", 0, 0
        await self.send(ack(0))
        while True:
            try:
                said = await self.receive(0.5)
            except TimeoutError:
                await self.send(ack(number))
                continue
            if said[:2] != b"\0\3":
                await self.send(ack(number))
            elif said[2:4] == (number + 1 & 0xFFFF).to_bytes(2, "big"):
                data, number = data + said[4:], number + 1
                if len(said) < 4 + block_size:
                    await self.send(ack(number))
                    return data
                if number >= told + window:
                    await self.send(ack(told := number))
            else:
                await self.send(ack(told := number))


def ack(number: int) -> bytes:
    """Of a block, by a client."""
    return b"\0\4" + (number & 0xFFFF).to_bytes(2, "big")
