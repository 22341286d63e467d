"""The floor for bytes: plain nats-py and asyncio's streams on the same broker, with the same roles.

    python bytes_floor.py exporter CONTEXT PORT
    python bytes_floor.py client CONTEXT IMAGE

A forward is chunks of 32 KiB within a credit of 4 MiB, by core NATS; nothing is checked, nothing sent again. An image
is chunks of 256 KiB, published to the stream of files 16 at a time, read by direct get 16 at a time and written to a
file; nothing is hashed, so nothing is recognised the second time.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import measure
import peer
from side_floor import NAME, USER, Client, open_client

TUNNEL_CHUNK = 32 << 10
WINDOW = 4 << 20
IMAGE_CHUNK = 256 << 10
AT_ONCE = 16
CHUNKS = f"jsnats.blob.{NAME}"
"""Subject of an image's chunks, without their numbers. There is one image at a time: run.py drops the one before."""


class Relay:
    """One end of a forward: what is read from the TCP connection goes to `out`, what comes on `into` is written."""

    def __init__(self, nc: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.nc, self.reader, self.writer = nc, reader, writer
        self.sent = self.taken = self.told = self.got = 0
        self.granted, self.ended = asyncio.Event(), asyncio.Event()
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def attach(self, out: str, into: str) -> None:
        """Subscribe. A grant goes the way of the data, under a session name of its own."""
        self.out, self.grant = out, f"{out}-grant"
        limits = {"pending_msgs_limit": 0, "pending_bytes_limit": 0}
        self.subscriptions = [
            await self.nc.subscribe(into, cb=self.on_data, **limits),
            await self.nc.subscribe(f"{into}-grant", cb=self.on_grant, **limits),
        ]

    async def on_grant(self, message: Any) -> None:
        self.taken = int(message.data)
        self.granted.set()

    async def on_data(self, message: Any) -> None:
        if not message.data:
            self.ended.set()
            return
        self.writer.write(message.data)
        await self.writer.drain()
        self.got += len(message.data)
        if self.got - self.told >= WINDOW // 4:
            self.told = self.got
            await self.nc.publish(self.grant, b"%d" % self.got)

    async def read_out(self) -> None:
        while chunk := await self.reader.read(TUNNEL_CHUNK):
            while self.sent + len(chunk) > self.taken + WINDOW:
                self.granted.clear()
                await self.granted.wait()
            self.sent += len(chunk)
            await self.nc.publish(self.out, chunk)
        await self.nc.publish(self.out, b"")

    async def run(self) -> None:
        """Relay until both directions have ended."""
        reading = asyncio.ensure_future(self.read_out())
        await self.ended.wait()
        self.writer.write_eof()
        await reading
        self.writer.close()
        for subscription in self.subscriptions:
            await subscription.unsubscribe()


async def all_in_order(count: int, fetch: Callable[[int], Awaitable[Any]], use: Callable[[Any], object]) -> None:
    """Run `fetch(0)` to `fetch(count - 1)`, 16 at a time, and `use` what they return in that order."""
    running = [asyncio.ensure_future(fetch(index)) for index in range(min(AT_ONCE, count))]
    for index in range(count):
        use((await running.pop(0)).data)
        if index + AT_ONCE < count:
            running.append(asyncio.ensure_future(fetch(index + AT_ONCE)))


class Exporter:
    """Serves `open` (of a forward) and `flash` (of an image)."""

    def __init__(self, nc: Any, port: int) -> None:
        self.nc, self.port = nc, port
        self.tasks: set[asyncio.Task[None]] = set()

    async def on_message(self, message: Any) -> None:
        """Callback of the one subscription."""
        work = self.flash if message.subject.endswith(".flash") else self.open
        task = asyncio.ensure_future(work(message))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def open(self, message: Any) -> None:
        """Connect, and relay."""
        session = message.data.decode()
        relay = Relay(self.nc, *await asyncio.open_connection(peer.HOST, self.port))
        await relay.attach(f"jsnats.down.{USER}.{NAME}.{session}", f"jsnats.up.{NAME}.{USER}.{session}")
        await self.nc.flush()
        await self.nc.publish(message.reply, b"")
        await relay.run()

    async def flash(self, message: Any) -> None:
        """Write what the stream has of an image to a file."""
        count = int(message.data)
        get = f"$JS.API.DIRECT.GET.JSNATS_BLOBS.{CHUNKS}"
        with tempfile.TemporaryFile(buffering=0) as file:
            await all_in_order(count, lambda index: self.nc.request(f"{get}.{index}", timeout=30), file.write)
        await self.nc.publish(message.reply, b"")


async def export(context: dict[str, str], port: int) -> None:
    """Serve until killed."""
    nc = await open_client(context)
    await nc.subscribe(f"jsnats.call.{NAME}.>", cb=Exporter(nc, port).on_message)
    await nc.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


class BytesClient(Client):
    """Sync code over a loop in a thread."""

    async def _ask(self, method: str, body: str) -> None:
        await self.nc.request(f"jsnats.call.{NAME}.{USER}.{method}", body.encode(), timeout=60)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = secrets.token_hex(16)
        relay = Relay(self.nc, reader, writer)
        await relay.attach(f"jsnats.up.{NAME}.{USER}.{session}", f"jsnats.down.{USER}.{NAME}.{session}")
        await self.nc.flush()
        await self._ask("open", session)
        await relay.run()

    def forwarded(self, work: str) -> measure.Figures:
        """Measure through a forward."""
        server = self.run(asyncio.start_server(self._accept, peer.HOST, 0))
        try:
            return peer.WORKS[work](server.sockets[0].getsockname())
        finally:
            server.close()

    def flash(self, path: Path) -> measure.Figures:
        """Store the image and have the exporter write it."""
        size = path.stat().st_size
        return measure.moved(lambda: self.run(self._flash(path, size // IMAGE_CHUNK)), size)

    async def _flash(self, path: Path, count: int) -> None:
        with path.open("rb", buffering=0) as file:
            await all_in_order(count, partial(self._store, file), self._check)
        await self._ask("flash", str(count))

    async def _store(self, file: BinaryIO, index: int) -> Any:
        file.seek(index * IMAGE_CHUNK)
        return await self.nc.request(f"{CHUNKS}.{index}", file.read(IMAGE_CHUNK), timeout=30)

    def _check(self, answer: bytes) -> None:
        assert b'"seq"' in answer, answer


def serve_rows(context: dict[str, str], image: Path) -> None:
    """Answer run.py."""
    client = BytesClient(context)
    rows: dict[str, measure.Row] = {work: partial(client.forwarded, work) for work in peer.WORKS}
    measure.answer(rows | {"image": lambda: client.flash(image)})


if __name__ == "__main__":
    import json

    way_in = json.loads(Path(sys.argv[2]).read_text())
    if sys.argv[1] == "exporter":
        asyncio.run(export(way_in, int(sys.argv[3])))
    else:
        serve_rows(way_in, Path(sys.argv[3]))
