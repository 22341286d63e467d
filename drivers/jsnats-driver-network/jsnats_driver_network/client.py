"""The user's side of network drivers: never imports the driver."""

from __future__ import annotations

import os
from contextlib import ExitStack
from threading import Event
from typing import Self
from urllib.parse import quote

import click

from jsnats.client import DriverClient

from .adapters import TcpPortforwardAdapter, UnixPortforwardAdapter
from .common import BUS_VARIABLES, BusKind, place


class NetworkClient(DriverClient):
    """Client of every network driver: `stream()` is one connection, the adapters make local ports of it."""

    def cli(self) -> click.Group:
        """Return the commands of `j`."""

        @click.group
        def base() -> None:
            """Reach the service from this machine."""

        @base.command()
        @click.option("--address", default="localhost", show_default=True, help="Local address to listen on.")
        @click.argument("port", type=click.IntRange(0, 65535))
        def forward_tcp(address: str, port: int) -> None:
            """Listen on local TCP port PORT (0: any free one) until Ctrl-C; each connection goes to the service."""
            with TcpPortforwardAdapter(client=self, local_host=address, local_port=port) as (host, bound):
                _wait(place(host, bound))

        @base.command()
        @click.argument("path", required=False, type=click.Path())
        def forward_unix(path: str | None) -> None:
            """Listen on a local socket until Ctrl-C; by default at a new place that only you can reach."""
            with UnixPortforwardAdapter(client=self, path=path) as bound:
                _wait(bound)

        return base


class DbusNetworkClient(NetworkClient):
    """Client of a bus. In its `with` block the exporter's bus is the bus of this process and those it starts."""

    def __enter__(self) -> Self:
        kind: BusKind = self.call("get_kind")
        with ExitStack() as stack:
            path = stack.enter_context(UnixPortforwardAdapter(client=self))
            stack.callback(_set, BUS_VARIABLES[kind], os.environ.get(BUS_VARIABLES[kind]))
            _set(BUS_VARIABLES[kind], f"unix:path={quote(path)}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()


def _wait(where: str) -> None:
    click.echo(where)
    Event().wait()


def _set(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value
