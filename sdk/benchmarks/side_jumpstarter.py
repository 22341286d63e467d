"""Jumpstarter: the same driver in an exporter process of its own, and a client over a unix socket.

    python side_jumpstarter.py exporter PATH    # PATH: a file that will hold the name of the socket
    python side_jumpstarter.py client PATH

Runs in an environment with jumpstarter and jumpstarter-driver-power.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import measure
from anyio.from_thread import BlockingPortal, start_blocking_portal
from jumpstarter.client import client_from_path

ITEMS = 10_000  # it would take a minute for as many as the others


async def export(path: Path) -> None:
    """Serve until killed."""
    from jumpstarter.common import ExporterStatus
    from jumpstarter.driver import Driver, export as exported
    from jumpstarter.exporter import Session
    from jumpstarter_driver_power.driver import MockPower

    class Bench(Driver):
        @classmethod
        def client(cls) -> str:
            return "jumpstarter_driver_composite.client.CompositeClient"

        @exported
        async def ping(self, value: Any) -> Any:
            return value

        @exported
        async def items(self, count: int) -> AsyncGenerator[dict[str, Any], None]:
            for index in range(int(count)):  # numbers arrive as floats
                yield measure.item(index)

    with Session(root_device=Bench(children={"power": MockPower()})) as session:
        async with session.serve_unix_async() as socket:
            session.update_status(ExporterStatus.LEASE_READY)
            path.write_text(str(socket))  # noqa: ASYNC240 - once, before anybody waits
            print("ready", flush=True)
            await asyncio.Event().wait()


def on_loop(socket: str, work: Callable[[Any], Awaitable[measure.Figures]]) -> measure.Figures:
    """Run an async row with a connection of its own."""

    async def run() -> measure.Figures:
        async with BlockingPortal() as portal:
            with ExitStack() as stack:
                async with client_from_path(socket, portal, stack, allow=[], unsafe=True) as client:
                    return await work(lambda: client.call_async("ping", measure.ARGUMENT))

    return asyncio.run(run())


def serve_rows(socket: str) -> None:
    """Answer run.py."""
    with start_blocking_portal() as portal, ExitStack() as stack:
        opened = client_from_path(socket, portal, stack, allow=[], unsafe=True)
        with portal.wrap_async_context_manager(opened) as client:

            def items(count: int) -> Any:
                return client.streamingcall("items", count)

            measure.answer(
                {
                    "sync_call": lambda: measure.sync_call(lambda: client.call("ping", measure.ARGUMENT)),
                    "async_call": lambda: on_loop(socket, measure.async_call),
                    "concurrent": lambda: on_loop(socket, measure.concurrent),
                    "stream": lambda: measure.stream(items, ITEMS),
                    "first_item": lambda: measure.first_item(items),
                }
            )


if __name__ == "__main__":
    os.environ.setdefault("_JMP_SUPPRESS_DRIVER_WARNINGS", "1")
    place = Path(sys.argv[2])
    if sys.argv[1] == "exporter":
        asyncio.run(export(place))
    else:
        serve_rows(place.read_text())
