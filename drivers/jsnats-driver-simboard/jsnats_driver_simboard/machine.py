"""The agent's end of a simulated board: its process, which is the board, and its supply, which follows what it does."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jsnats_driver_power.common import PowerReading
from jsnats_driver_power.supply import Supply

ANSWER_S: Final = 10.0
"""How long the process may take to start, to switch, and to end."""


class Machine:
    """A board that is plugged in while the agent runs. `voltage` V without load, `options` are the process's."""

    def __init__(self, voltage: float, options: Sequence[str]) -> None:
        self.folder = Path(tempfile.gettempdir()) / f"simboard-{secrets.token_hex(6)}"
        self.logger = logging.getLogger(__name__)
        self._supply = Supply(voltage=voltage, load=0.0)
        self._options = options
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._asked: deque[asyncio.Future[None]] = deque()
        self._turn = asyncio.Lock()

    @property
    def console(self) -> Path:
        """The board's serial line."""
        return self.folder / "console"

    @property
    def image(self) -> Path:
        """What the board boots."""
        return self.folder / "flash.img"

    @property
    def web(self) -> Path:
        """The socket of the board's web server."""
        return self.folder / "web"

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self._supply.on

    def reading(self) -> PowerReading:
        """What a meter shows now."""
        return self._supply.reading(time.monotonic())

    async def plug(self) -> None:
        """Plug it in, without power, unless it is already: its serial line appears. Raises as `switch`."""
        async with self._turn:
            if self._process is None:
                await self._launch()

    async def unplug(self) -> None:
        """End the process, as it ends itself when this one is killed, and remove what it had."""
        process, self._process = self._process, None
        if process and process.stdin:
            process.stdin.close()
            try:
                async with asyncio.timeout(ANSWER_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
        if self._listening:
            await self._listening
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def switch(self, on: bool) -> None:
        """Return when the board has begun to boot, or is off. One whose process was killed is started again by `on`.

        Raises ConnectionError when the process ends, TimeoutError when it does not answer.
        """
        if on:
            await self.plug()
        if self._process:  # unplugged is off
            await self._tell("on" if on else "off")

    async def _launch(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", __package__, str(self.folder), *self._options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for the agent, which unplugs the board in order
        )
        self._listening = asyncio.create_task(self._listen(self._process), name=f"simboard {self.folder}")
        await self._answer()

    async def _tell(self, word: str) -> None:
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(f"{word}\n".encode())
        await self._answer()

    async def _answer(self) -> None:
        """Wait for the answer to what was said last. It is waited for by its place: a caller may have given up."""
        answer = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        try:
            async with asyncio.timeout(ANSWER_S):
                await answer
        except TimeoutError as error:
            raise TimeoutError(f"the simulated board did not answer within {ANSWER_S:g} s") from error

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        async for line in process.stdout:
            self._heard(line.decode().split())
        code = await process.wait()
        self._supply.switch(False, time.monotonic())
        while self._asked:
            if not (answer := self._asked.popleft()).done():
                answer.set_exception(ConnectionError(f"the simulated board has ended, code {code}"))
        if self._process is process:
            self._process = None
            self.logger.error("the simulated board has ended, code %d: switch it on again", code)

    def _heard(self, words: list[str]) -> None:
        now = time.monotonic()
        if words[0] == "draw":
            self._supply.draw(float(words[1]) / self._supply.voltage, now)
            return
        self._supply.switch(words[0] == "on", now)
        if not (answer := self._asked.popleft()).done():
            answer.set_result(None)
