"""What servers of files for the device under test have in common: a root, an address, and an end.

A subclass says in `serve` how it speaks. It listens beside the hardware, so that the device fetches from the exporter;
files come to the root through the broker, by way of the child `storage`.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, ClassVar, Final
from urllib.parse import quote

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, Resource, export

from .driver import Opendal
from .paths import clean


def _address(text: str | None) -> str | None:
    try:
        return str(ipaddress.ip_address(text)) if text else None
    except ValueError:
        raise ValueError(f"{text!r} is no IP address: say one of this host's, or leave it out") from None


Host = Annotated[str | None, AfterValidator(_address)]
Port = Annotated[int, Field(ge=0, le=65535)]

_ANYWHERE: Final = ("0.0.0.0", "::")


@dataclass(kw_only=True)
class FileServerInterface(Driver, ABC):
    """A server of the files below `root_dir`, from `start_server` to `stop_server` or the end of the lease.

    It listens at `host`, an IP address of this host that the device reaches; without one, at that of the default
    route. `port` 0 is any free one. With `remove_created_on_close`, what was put during a lease is removed at its end.
    """

    root_dir: str
    port: Port
    host: Host = None
    remove_created_on_close: bool = True

    scheme: ClassVar[str]
    """Of its URLs."""
    transport: ClassVar[socket.SocketKind]

    @classmethod
    def client(cls) -> str:
        """Return the client of every server of files."""
        return "jsnats_driver_opendal.server_client.FileServerClient"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.root = Path(self.root_dir).absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"root_dir {self.root_dir}: {error.strerror}") from error
        removes = self.remove_created_on_close
        self.storage = Opendal(scheme="fs", kwargs={"root": str(self.root)}, remove_created_on_close=removes)
        self.children["storage"] = self.storage
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._bound: socket.socket | None = None
        self._told = ""

    @abstractmethod
    async def serve(self, bound: socket.socket) -> None:
        """Serve at a socket until cancelled; when it returns, nothing that it opened is left."""

    async def reset(self) -> None:
        """Begin a lease without what ran outside of one."""
        await self.stop_server()

    async def close(self) -> None:
        """Stop; the storage removes what was put."""
        await self.stop_server()

    @export
    async def start_server(self) -> str:
        """Listen, unless it does already, and return the URL of the root.

        Raises OSError for a port that is taken or not permitted, and for a host that is not this one.
        """
        async with self._lock:
            if not self._task or self._task.done():
                await self._listen()
        return await self.get_url()

    @export
    async def stop_server(self) -> None:
        """Break off what is being transferred, and do not listen any more; nothing happens if it does not."""
        async with self._lock:
            if not self._task or not self._bound:
                return
            self._task.cancel()
            try:
                await asyncio.wait({self._task})
            finally:
                self._bound.close()
                self._task = None

    @export
    async def put_file(self, dst: str, src: Resource) -> str:
        """Write a file, byte for byte, and return its URL, at which the device finds it: the server is started."""
        await self.storage.write(dst, src)
        await self.start_server()
        return await self.get_url(dst)

    @export
    async def get_url(self, path: str = "") -> str:
        """URL of a file, or of the root. Raises ConnectionError when the server does not run."""
        host = await self.get_host()
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{await self.get_port()}/{quote(clean(path))}"

    @export
    async def get_host(self) -> str:
        """IP address for the device. Raises ConnectionError when the server does not run."""
        self._running()
        return self._told

    @export
    async def get_port(self) -> int:
        """Port for the device. Raises ConnectionError when the server does not run."""
        return int(self._running().getsockname()[1])

    def _running(self) -> socket.socket:
        if self._task and not self._task.done() and self._bound:
            return self._bound
        raise ConnectionError("the server does not run: start it first")

    async def _listen(self) -> None:
        self._told = self.host if self.host and self.host not in _ANYWHERE else own_address()
        self._bound = bound_socket(self.host or self._told, self.port, self.transport)
        self._task = asyncio.create_task(self.serve(self._bound))
        self._task.add_done_callback(self._ended)
        await asyncio.sleep(0)  # until it has begun
        self.logger.info("serves %s at port %s of %s", self.root, self._bound.getsockname()[1], self._told)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self.logger.error("the server has broken down: %s: %s", type(error).__name__, error)


def own_address() -> str:
    """Address of this host on its default route; nothing is sent. Raises OSError if it has none."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError as error:
            raise OSError("this host has no default route: say `host`, its address that the device reaches") from error
        return str(probe.getsockname()[0])


def bound_socket(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """A socket at an address; one of TCP listens already. Raises OSError, in words about that address."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    try:
        bound.setblocking(False)
        if kind == socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        if kind == socket.SOCK_STREAM:
            bound.listen(128)
    except OSError as error:
        bound.close()
        raise _explained(error, host, port) from error
    return bound


def _explained(error: OSError, host: str, port: int) -> OSError:
    if error.errno == errno.EADDRINUSE:
        return OSError(f"port {port} of {host} is taken: stop what listens there, or say another port")
    if error.errno == errno.EACCES:
        return PermissionError(f"port {port} needs root or CAP_NET_BIND_SERVICE: give that to the agent")
    if error.errno == errno.EADDRNOTAVAIL:
        return OSError(f"{host} is no address of this host: `ip address` shows those it has")
    return OSError(f"cannot listen at port {port} of {host}: {error.strerror}")
