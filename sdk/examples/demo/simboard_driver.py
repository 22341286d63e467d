"""Drivers for the simulated board: its power switch, which also keeps the process, and its flash.

Both work on one `folder`: `console` is the board's serial line, `flash.img` what it boots. The serial line and the web
server need no driver of their own: they are a real pty and a real port (see board.yaml).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
from pydantic import Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Resource, export
from jsnats_driver_opendal.driver import FlasherInterface
from jsnats_driver_power.common import PowerReading
from jsnats_driver_power.driver import PowerInterface
from jsnats_driver_power.supply import Supply

PROGRAM = Path(__file__).with_name("simboard.py")
ANSWER_S = 10.0
BLOCK = 1 << 20


@dataclass(kw_only=True)
class SimPower(PowerInterface):
    """The board's power switch. `port` is where the board's web server listens, 0 for none; `interval` in s."""

    folder: Path
    port: int = Field(default=0, ge=0, lt=65536)
    interval: float = Field(default=0.1, gt=0, le=3600)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._process: asyncio.subprocess.Process | None = None
        self._supply = Supply(voltage=5.0, load=0.4)
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Plug the board in, without power: its serial line appears."""
        if self._process is None:
            self._process = await self._launch()
            await self._answer("ready")

    async def stop(self) -> None:
        """Unplug it: the end of its standard input, which it also sees when this process is killed."""
        process, self._process = self._process, None
        self._supply.switch(False, time.monotonic())
        if process and process.stdin:
            process.stdin.close()
            await process.wait()

    async def _launch(self) -> asyncio.subprocess.Process:
        arguments = ["--console", self.folder / "console", "--flash", self.folder / "flash.img", "--port", self.port]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            PROGRAM,
            *map(str, arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for the agent, which unplugs the board in order
        )

    @export
    async def on(self) -> None:
        """Switch on: the board boots what its flash holds."""
        await self._switch("on")

    @export
    async def off(self) -> None:
        """Switch off, in the middle of whatever it does."""
        await self._switch("off")

    @export
    async def read(self) -> AsyncGenerator[PowerReading, None]:
        """Yield a reading (V, A) each `interval` until the reader stops."""
        while True:
            yield self._supply.reading(time.monotonic())
            await asyncio.sleep(self.interval)

    async def _switch(self, word: str) -> None:
        async with self._turn:
            if self._process is None or self._process.stdin is None:
                return  # unplugged is off; the agent switches on only between start and stop
            self._process.stdin.write(f"{word}\n".encode())
            await self._answer(word)
            self._supply.switch(word == "on", time.monotonic())
        self.logger.info("switched %s", word)

    async def _answer(self, word: str) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(ANSWER_S):
            said = (await self._process.stdout.readline()).decode().strip()
        if said != word:
            raise ConnectionError(f"the simulated board has ended: it said {said!r} instead of {word!r}")


@dataclass(kw_only=True)
class SimFlash(FlasherInterface):
    """The board's flash. What is written counts from the next boot on."""

    folder: Path

    @export
    async def flash(self, source: Resource, target: str | None = None) -> None:
        """Write an image, decompressed if it is compressed. There is one `target`."""
        fresh = self._image.with_suffix(".new")
        async with self.resource(source) as stream, await anyio.open_file(fresh, "wb") as file:
            done = 0
            async for data in stream:
                done += await file.write(data)
                self.report_progress(done, stream.size, "writing")
        fresh.replace(self._image)  # only now: what is in the stream was verified to its end
        self.logger.info("flashed %s, %d bytes", stream.name or "an image", done)

    @export
    async def dump(self, target: str | None = None) -> Resource:
        """Read the image back."""
        async with self.new_resource(name="flash.img") as sink, await anyio.open_file(self._image, "rb") as file:
            while data := await file.read(BLOCK):
                await sink.send(data)
        return sink.handle

    @property
    def _image(self) -> Path:
        return self.folder / "flash.img"
