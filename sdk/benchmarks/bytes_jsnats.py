"""jsnats: a TCP forward and a flasher in an exporter process, and a client process.

python bytes_jsnats.py exporter CONTEXT PORT
python bytes_jsnats.py client CONTEXT IMAGE
"""

# No `from __future__ import annotations`: the types of the driver below are names of the function it is made in.
import asyncio
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import measure
import peer

from jsnats.sdk import Context, Lab, connect

EXPORTER = "bench"


async def export(context: Context, port: int) -> None:
    """Serve until killed."""
    from jsnats.agent import Exporter, Spec
    from jsnats.driver import Composite, Resource, export as exported
    from jsnats_driver_network.driver import TcpNetwork
    from jsnats_driver_opendal.driver import FlasherInterface

    class Flasher(FlasherInterface):
        @exported
        async def flash(self, source: Resource, target: str | None = None) -> None:
            """Write to a file."""
            with tempfile.TemporaryFile(buffering=0) as file:
                async with self.resource(source) as stream:
                    async for chunk in stream:
                        file.write(chunk)

        @exported
        async def dump(self, target: str | None = None) -> Resource:
            """Refuse: it only writes."""
            raise NotImplementedError

    root = Composite(children={"tcp": TcpNetwork(host=peer.HOST, port=port), "flasher": Flasher()})
    async with Exporter(Spec(name=EXPORTER, root=root), context) as exporter:
        print("ready", flush=True)
        await exporter.lost.wait()


def serve_rows(lab: Lab, image: str) -> None:
    """Answer run.py."""
    from jsnats_driver_network.adapters import TcpPortforwardAdapter

    client = lab.exporter(EXPORTER)

    def forwarded(work: str) -> measure.Figures:
        with TcpPortforwardAdapter(client=client.tcp) as address:
            return peer.WORKS[work](address)

    def forget() -> measure.Figures:
        for each in lab.blobs.ls():
            lab.blobs.rm(each.sha256)
        return {}

    rows: dict[str, measure.Row] = {work: partial(forwarded, work) for work in peer.WORKS}
    flash = partial(measure.moved, lambda: client.flasher.flash(image), os.path.getsize(image))
    measure.answer(rows | {"image": flash, "image_again": flash, "forget": forget})


if __name__ == "__main__":
    way_in = Context.load(Path(sys.argv[2]))
    if sys.argv[1] == "exporter":
        asyncio.run(export(way_in, int(sys.argv[3])))
    else:
        with connect(context=way_in) as opened:
            serve_rows(opened, sys.argv[3])
