"""The exporter's side: one driver for each way to connect. Each call of `connect` makes a connection of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import field
from importlib.util import find_spec
from typing import Annotated

import anyio
from anyio import create_memory_object_stream
from anyio.abc import ByteStream, ObjectStream, SocketStream
from anyio.streams.stapled import StapledObjectStream
from pydantic import Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, export, exportstream

from .common import BusKind, place
from .dbus import bus_address, dial_bus
from .dial import dial_tcp, dialling
from .sockets import AF_VSOCK, connect_udp, connect_vsock

Host = Annotated[str, Field(min_length=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Timeout = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
U32 = Annotated[int, Field(ge=0, lt=1 << 32)]

ECHO_MESSAGES = 32
"""Messages that `EchoNetwork` holds for a client that does not read."""


@dataclass(kw_only=True)
class _Network(Driver):
    """`connect_timeout`: seconds until a connection must stand."""

    connect_timeout: Timeout = 10.0

    @classmethod
    def client(cls) -> str:
        """Return the client of all of them."""
        return "jsnats_driver_network.client.NetworkClient"


@dataclass(kw_only=True)
class TcpNetwork(_Network):
    """A TCP service: `port` of `host`, as the exporter resolves it."""

    host: Host
    port: Port

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[SocketStream, None]:
        """Connect. Raises ConnectionError or TimeoutError."""
        async with await dial_tcp(self.host, self.port, self.connect_timeout) as stream:
            yield stream


@dataclass(kw_only=True)
class UdpNetwork(_Network):
    """A UDP service: every message is one datagram. They may be lost or swapped, as on any network."""

    host: Host
    port: Port

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[ObjectStream[bytes], None]:
        """Take a local port whose datagrams go to the service. Nobody needs to be there."""
        with dialling(place(self.host, self.port), self.connect_timeout):
            stream = await connect_udp(self.host, self.port)
        async with stream:
            yield stream


@dataclass(kw_only=True)
class UnixNetwork(_Network):
    """A service on a socket of the exporter's host."""

    path: Annotated[str, Field(min_length=1)]

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[SocketStream, None]:
        """Connect. Raises ConnectionError or TimeoutError."""
        with dialling(self.path, self.connect_timeout):
            stream = await anyio.connect_unix(self.path)
        async with stream:
            yield stream


@dataclass(kw_only=True)
class WebsocketNetwork(_Network):
    """A websocket: every message is one of it, binary, or with `text` a text message (UTF-8).

    `headers` go with the request, such as `Authorization`; of `subprotocols` the service chooses one.
    """

    url: Annotated[str, Field(pattern=r"^wss?://")]
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    subprotocols: list[str] = field(default_factory=list)
    text: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if find_spec("websockets") is None:
            raise ValueError("WebsocketNetwork needs websockets: pip install 'jsnats-driver-network[agent]'")

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[ObjectStream[bytes], None]:
        """Connect. Raises ConnectionError or TimeoutError."""
        from .websocket import dial_websocket

        stream = await dial_websocket(
            self.url,
            headers=self.headers,
            subprotocols=self.subprotocols,
            text=self.text,
            timeout_s=self.connect_timeout,
        )
        async with stream:
            yield stream


class EchoNetwork(Driver):
    """Sends back every message, for a first try of a bench and for measurements."""

    @classmethod
    def client(cls) -> str:
        """Return the client of all network drivers."""
        return "jsnats_driver_network.client.NetworkClient"

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[ObjectStream[bytes], None]:
        """Open a loop of its own."""
        async with StapledObjectStream(*create_memory_object_stream[bytes](ECHO_MESSAGES)) as stream:
            yield stream


@dataclass(kw_only=True)
class VsockNetwork(_Network):
    """A service inside a virtual machine: `port` of the machine `cid`."""

    cid: U32
    port: U32

    def __post_init__(self) -> None:
        super().__post_init__()
        if AF_VSOCK is None:
            raise ValueError("VsockNetwork needs an exporter on Linux: this system has no vsock")

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[ByteStream, None]:
        """Connect. Raises ConnectionError, also where the kernel has no vsock, or TimeoutError."""
        with dialling(f"vsock {self.cid}:{self.port}", self.connect_timeout):
            stream = await connect_vsock(self.cid, self.port)
        async with stream:
            yield stream


@dataclass(kw_only=True)
class DbusNetwork(_Network):
    """The system or the session bus of the exporter's host."""

    kind: BusKind

    def __post_init__(self) -> None:
        super().__post_init__()
        self._environment = dict(os.environ)  # of the start: a client in this process would lead us to itself

    @classmethod
    def client(cls) -> str:
        """Return the client that makes the bus that of its process."""
        return "jsnats_driver_network.client.DbusNetworkClient"

    @export
    async def get_kind(self) -> BusKind:
        """Say which bus it is: `system` or `session`."""
        return self.kind

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[ByteStream, None]:
        """Connect. Raises ConnectionError, also where there is no such bus, or TimeoutError."""
        address = bus_address(self.kind, self._environment)
        async with await dial_bus(self.kind, address, self.connect_timeout) as stream:
            yield stream
