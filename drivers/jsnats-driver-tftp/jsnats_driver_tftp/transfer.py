"""One file on its way to one client, from a port of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import BinaryIO, Final, cast

from .packets import Ack, Failure, Malformed, Packet, Settings, data, netascii, oack, parse
from .window import Window

TIMEOUT_S: Final = 1.0
"""How long an answer may take before what it is to is sent again, if the client does not say."""
PATIENCE_S: Final = 20.0
"""How long a client may make no progress. Some erase flash between two blocks."""
GAP_S: Final = 0.02
"""How long it is waited for another answer when a client has repeated one, which in a window may mean that a block was
lost, or that it had one twice. Sending again at once would double the second kind, and that for ever."""
_READ: Final = 256 << 10


class Gone(Exception):
    """The client does not want the file any more, or is silent."""


class Peer(asyncio.DatagramProtocol):
    """The client, at a socket that is connected to it: no one else is heard. `heard` when it has answered."""

    def __init__(self) -> None:
        self.heard = False
        self._inbox: asyncio.Queue[Packet | Exception] = asyncio.Queue(maxsize=256)
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        self._transport = cast("asyncio.DatagramTransport", transport)  # that of Python 3.11 does not say so

    def datagram_received(self, datagram: bytes, addr: object) -> None:
        """Asyncio's."""
        self.heard = True
        with suppress(Malformed, asyncio.QueueFull):
            self._inbox.put_nowait(parse(datagram))

    def error_received(self, error: Exception) -> None:
        """Asyncio's: nobody listens at the client's port, or the datagram is too large for the network."""
        with suppress(asyncio.QueueFull):
            self._inbox.put_nowait(error)

    def send(self, packet: bytes) -> None:
        """Send a datagram."""
        assert self._transport
        self._transport.sendto(packet)

    async def receive(self) -> Packet:
        """What it says next. Raises Gone when it gives up, or does not listen any more."""
        said = await self._inbox.get()
        if isinstance(said, Failure):
            raise Gone(f"the client says error {said.code}: {said.message}")
        if isinstance(said, Exception):
            raise Gone(f"the client is gone: {said}") from said
        return said


class Transfer:
    """Sends a file. `done` are the bytes that the client has."""

    def __init__(self, peer: Peer, settings: Settings) -> None:
        self.done = 0
        self._peer = peer
        self._settings = settings
        self._wait_s = settings.timeout_s or TIMEOUT_S
        self._window = Window(settings.window, first=0 if settings.answer else 1)
        self._held: deque[bytes] = deque()  # what the client may not have yet

    async def run(self, file: BinaryIO, mode: str) -> None:
        """Send all of it. Raises Gone, OSError of the disk."""
        async with aclosing(self._packets(file, mode)) as packets:
            while await self._fill(packets):
                self._send()
                for _ in range(await self._progress()):
                    self.done += _payload(self._held.popleft())

    async def _packets(self, file: BinaryIO, mode: str) -> AsyncGenerator[bytes, None]:
        if self._settings.answer:
            yield oack(self._settings.answer)
        number = 0
        async with aclosing(blocks(file, self._settings.block_size, mode)) as payloads:
            async for payload in payloads:
                number += 1
                yield data(number, payload)

    async def _fill(self, packets: AsyncIterator[bytes]) -> bool:
        while len(self._held) < self._window.room and (packet := await anext(packets, None)) is not None:
            self._held.append(packet)
        return bool(self._held)

    def _send(self) -> None:
        for index in self._window.due(len(self._held)):
            self._peer.send(self._held[index])

    async def _progress(self) -> int:
        """Wait until the client has more, and return how many blocks. What has no answer is sent again."""
        now = asyncio.get_running_loop().time
        end = now() + max(PATIENCE_S, 5 * self._wait_s)
        while now() < end:
            if more := await self._answer():
                return more
            self._window.back()
            self._send()
        raise Gone("the client is silent")

    async def _answer(self) -> int:
        now = asyncio.get_running_loop().time
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s) as limit:
                while True:
                    said = await self._peer.receive()
                    more = self._window.take(said.block) if isinstance(said, Ack) else None
                    if more:
                        return more
                    if more == 0 and self._window.room > 1:
                        limit.reschedule(min(limit.when() or 0, now() + GAP_S))
        return 0


async def blocks(file: BinaryIO, size: int, mode: str) -> AsyncGenerator[bytes, None]:
    """The payloads of a file; the last one is shorter than `size`, empty if need be."""
    held = b""
    while piece := await asyncio.to_thread(file.read, _READ):
        held += netascii(piece) if mode == "netascii" else piece
        whole = len(held) - len(held) % size
        for begin in range(0, whole, size):
            yield held[begin : begin + size]
        held = held[whole:]
    yield held


def _payload(packet: bytes) -> int:
    return len(packet) - 4 if packet.startswith(b"\0\3") else 0
