"""Jumpstarter: a TCP forward and a flasher in an exporter process of its own, and a client over a unix socket.

    python bytes_jumpstarter.py exporter PATH PORT    # PATH: a file that will hold the name of the socket
    python bytes_jumpstarter.py client PATH IMAGE

Runs in an environment with jumpstarter, jumpstarter-driver-network and jumpstarter-driver-opendal.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import measure
import peer
from anyio.from_thread import start_blocking_portal
from jumpstarter.client import client_from_path


async def export(path: Path, port: int) -> None:
    """Serve until killed."""
    from jumpstarter.common import ExporterStatus
    from jumpstarter.driver import Driver, export as exported
    from jumpstarter.exporter import Session
    from jumpstarter_driver_composite.driver import Composite
    from jumpstarter_driver_network.driver import TcpNetwork
    from jumpstarter_driver_opendal.driver import FlasherInterface

    class Flasher(FlasherInterface, Driver):
        @exported
        async def flash(self, source: Any, target: str | None = None) -> None:
            with tempfile.TemporaryFile(buffering=0) as file:
                async with self.resource(source) as stream:
                    async for chunk in stream:
                        file.write(chunk)

        @exported
        async def dump(self, target: Any, partition: str | None = None) -> None:
            raise NotImplementedError

    tcp = TcpNetwork(host=peer.HOST, port=port)
    with Session(root_device=Composite(children={"tcp": tcp, "flasher": Flasher()})) as session:
        async with session.serve_unix_async() as socket:
            session.update_status(ExporterStatus.LEASE_READY)
            path.write_text(str(socket))  # noqa: ASYNC240 - once, before anybody waits
            print("ready", flush=True)
            await asyncio.Event().wait()


def serve_rows(socket: str, image: str) -> None:
    """Answer run.py."""
    from jumpstarter_driver_network.adapters import TcpPortforwardAdapter

    with start_blocking_portal() as portal, ExitStack() as stack:
        opened = client_from_path(socket, portal, stack, allow=[], unsafe=True)
        with portal.wrap_async_context_manager(opened) as client:

            def forwarded(work: str) -> measure.Figures:
                with TcpPortforwardAdapter(client=client.tcp) as address:
                    return peer.WORKS[work](address)

            rows: dict[str, measure.Row] = {work: partial(forwarded, work) for work in peer.WORKS}
            flash = partial(measure.moved, lambda: client.flasher.flash(image), os.path.getsize(image))
            measure.answer(rows | {"image": flash, "image_again": flash})


if __name__ == "__main__":
    os.environ |= {"_JMP_SUPPRESS_DRIVER_WARNINGS": "1", "TERM": "dumb"}  # a progress bar would go to the same pipe
    place = Path(sys.argv[2])
    if sys.argv[1] == "exporter":
        asyncio.run(export(place, int(sys.argv[3])))
    else:
        serve_rows(place.read_text(), sys.argv[3])
