"""Where a D-Bus listens: the addresses of its specification, as far as a stream can reach them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import unquote

import anyio
from anyio.abc import ByteStream

from .common import BUS_VARIABLES, BusKind
from .dial import dial_tcp, dialling


def bus_address(kind: BusKind, environment: Mapping[str, str]) -> str:
    """The address of a bus, as a process with that environment finds it.

    Raises ConnectionError if nothing says where a session bus is.
    """
    if address := environment.get(BUS_VARIABLES[kind]):
        return address
    if kind == "system":
        return "unix:path=/run/dbus/system_bus_socket"
    if folder := environment.get("XDG_RUNTIME_DIR"):
        return f"unix:path={folder}/bus"
    raise ConnectionError(
        f"no session bus: start the exporter inside a session, or with {BUS_VARIABLES['session']} set to its address"
    )


async def dial_bus(kind: BusKind, address: str, timeout_s: float) -> ByteStream:
    """Connect to a bus, at the first of the places in its address that a stream can reach. Raises as `dialling`."""
    for transport, values in parse(address):
        if transport == "unix" and ("path" in values or "abstract" in values):
            path = values.get("path") or f"\0{values['abstract']}"
            with dialling(f"the {kind} bus at {path.lstrip(chr(0))}", timeout_s):
                return await anyio.connect_unix(path)
        if transport == "tcp" and {"host", "port"} <= values.keys():
            return await dial_tcp(values["host"], int(values["port"]), timeout_s)
    raise ConnectionError(f"the {kind} bus is at {address!r}, and only unix:path, unix:abstract and tcp can be reached")


def parse(address: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield transport and values of each address in `unix:path=/a,guid=b;tcp:host=c,port=1`."""
    for each in filter(None, address.split(";")):
        transport, _, rest = each.partition(":")
        pairs = (pair.partition("=") for pair in rest.split(",") if pair)
        yield transport, {key: unquote(value) for key, _, value in pairs}
