"""The port where files are asked for."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from jsnats_driver_opendal.paths import check_inside, clean

from .packets import Code, Malformed, Request, agree, error, parse
from .transfer import Gone, Peer, Transfer

MAX_TRANSFERS: Final = 100
"""At once; who asks for one more is told to come again."""

Address = Any
"""As the socket says it: of two or four parts."""


async def serve(bound: socket.socket, root: Path, logger: logging.Logger) -> None:
    """Answer requests for files below `root` until cancelled; then no transfer is left."""
    async with asyncio.TaskGroup() as transfers:
        loop = asyncio.get_running_loop()
        port, _ = await loop.create_datagram_endpoint(lambda: _Requests(bound, root, logger, transfers), sock=bound)
        try:
            await asyncio.Event().wait()
        finally:
            port.close()


class _Requests(asyncio.DatagramProtocol):
    """Takes requests, and starts a transfer for each."""

    def __init__(self, bound: socket.socket, root: Path, logger: logging.Logger, transfers: asyncio.TaskGroup) -> None:
        self._bound = bound
        self._root = root
        self._logger = logger
        self._transfers = transfers
        self._under_way: dict[Address, tuple[Request, Peer]] = {}
        self._count = 0
        self._port: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._port = cast("asyncio.DatagramTransport", transport)  # that of Python 3.11 does not say so

    def datagram_received(self, datagram: bytes, addr: Address) -> None:
        try:
            said = parse(datagram)
        except Malformed as malformed:
            # An answer to anything else might itself be answered, and so on.
            if datagram[:2] in (b"\0\1", b"\0\2"):
                self._refuse(addr, Code.ILLEGAL, str(malformed))
            return
        if isinstance(said, Request) and not self._is_repeated(said, addr):
            self._take(said, addr)

    def _is_repeated(self, request: Request, addr: Address) -> bool:
        """Whether it is sent again as its answer was lost: that is sent again by itself."""
        known, peer = self._under_way.get(addr, (None, None))
        return known == request and peer is not None and not peer.heard

    def _take(self, request: Request, addr: Address) -> None:
        if request.write:
            self._refuse(addr, Code.ACCESS, "files are for reading here")
        elif request.mode not in ("octet", "netascii"):
            self._refuse(addr, Code.ILLEGAL, f"mode {request.mode[:20]} is neither octet nor netascii")
        elif self._count >= MAX_TRANSFERS:
            self._refuse(addr, Code.UNDEFINED, f"{MAX_TRANSFERS} transfers are under way: try again")
        else:
            self._count += 1
            entry = self._under_way[addr] = request, Peer()
            self._transfers.create_task(self._answer(entry, addr))

    def _refuse(self, addr: Address, code: Code, why: str) -> None:
        assert self._port
        self._port.sendto(error(code, why), addr)
        self._logger.warning("refused %s: %s", addr[0], why)

    async def _answer(self, entry: tuple[Request, Peer], addr: Address) -> None:
        try:
            await self._serve(*entry, addr)
        except Exception:  # the others go on
            self._logger.exception("a transfer has broken down")
        finally:
            self._count -= 1
            if self._under_way.get(addr) is entry:
                del self._under_way[addr]

    async def _serve(self, request: Request, peer: Peer, addr: Address) -> None:
        own = _connected(self._bound, addr)
        port, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: peer, sock=own)
        try:
            with _opened(self._root, request.filename) as file:
                await self._send(file, request, peer, addr)
        except asyncio.CancelledError:
            peer.send(error(Code.UNDEFINED, "the server was stopped"))  # or the device would wait in vain
            raise
        except PermissionError as refusal:
            self._fail(peer, Code.ACCESS, request, addr, str(refusal))
        except FileNotFoundError as missing:
            self._fail(peer, Code.NOT_FOUND, request, addr, str(missing))
        except OSError as fault:
            self._fail(peer, Code.UNDEFINED, request, addr, fault.strerror or str(fault))
        finally:
            port.close()

    async def _send(self, file: BinaryIO, request: Request, peer: Peer, addr: Address) -> None:
        size = os.fstat(file.fileno()).st_size if request.mode == "octet" else None
        transfer, begin = Transfer(peer, agree(request.options, size)), time.monotonic()
        end = "broken off"
        try:
            await transfer.run(file, request.mode)
            end = "all of it"
        except Gone as gone:
            end = str(gone)
        finally:
            took = time.monotonic() - begin
            self._logger.info("%r: %s bytes to %s in %.1f s: %s", request.filename, transfer.done, addr[0], took, end)

    def _fail(self, peer: Peer, code: Code, request: Request, addr: Address, why: str) -> None:
        peer.send(error(code, why))
        self._logger.info("%r: refused to %s: %s", request.filename, addr[0], why)


def _connected(bound: socket.socket, addr: Address) -> socket.socket:
    """A socket of the same address for one client, who sees by its port which transfer it is."""
    host, _, *scope = bound.getsockname()
    own = socket.socket(bound.family, socket.SOCK_DGRAM)
    try:
        own.setblocking(False)
        own.bind((host, 0, *scope))
        own.connect(addr)
    except OSError:
        own.close()
        raise
    return own


@contextmanager
def _opened(root: Path, filename: str) -> Iterator[BinaryIO]:
    """A file below the root. Raises PermissionError, FileNotFoundError, OSError, whose text the client is told."""
    path = clean(filename)
    check_inside(root, path)
    try:
        # A pipe would wait for its writer.
        descriptor = os.open(root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise PermissionError("it may not be read") from None
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError("there is no such file") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError("it is no file")
    with open(descriptor, "rb") as file:
        yield file
