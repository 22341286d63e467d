"""The board's end of its serial line: a pty, with a symbolic link to it as udev makes one for a serial adapter."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import time
import tty
from contextlib import suppress
from pathlib import Path

NOBODY_S = 1.0
"""How long output waits for a full line buffer before it is lost, as it is on a wire that nobody reads."""


class Line:
    """The board's end of the serial line: raw bytes, no echo but the board's own."""

    def __init__(self, link: Path) -> None:
        self._board, self._held = pty.openpty()  # our own hold of the other end: nobody's closing it hangs up
        tty.setraw(self._held)
        os.set_blocking(self._board, False)
        self._link = link
        self._lost = False
        self._typed: asyncio.Queue[int] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(self._board, self._on_readable)
        self._publish(os.ttyname(self._held))

    def _publish(self, device: str) -> None:
        fresh = self._link.with_name(f".{self._link.name}.{os.getpid()}")
        fresh.symlink_to(device)
        fresh.replace(self._link)

    def close(self) -> None:
        """Take the link away and hang up."""
        asyncio.get_running_loop().remove_reader(self._board)
        with suppress(OSError):
            self._link.unlink()
        os.close(self._held)
        os.close(self._board)

    def _on_readable(self) -> None:
        for byte in os.read(self._board, 4096):
            self._typed.put_nowait(byte)

    def forget_typed(self) -> None:
        """What was typed while the board had no power is nowhere."""
        while not self._typed.empty():
            self._typed.get_nowait()

    async def write(self, text: str) -> None:
        """Say something; a newline is sent as CR LF."""
        data = text.replace("\n", "\r\n").encode()
        while data:
            try:
                data = data[os.write(self._board, data) :]
                self._lost = False
            except BlockingIOError:
                if self._lost or not await self._drained():
                    self._lost = True
                    return

    async def _drained(self) -> bool:
        end = time.monotonic() + NOBODY_S
        while time.monotonic() < end:
            if select.select([], [self._board], [], 0)[1]:
                return True
            await asyncio.sleep(0.01)
        return False

    async def key(self) -> int:
        """The next byte typed."""
        return await self._typed.get()

    async def key_within(self, seconds: float) -> bool:
        """Whether anything is typed within that time."""
        try:
            async with asyncio.timeout(seconds):
                await self.key()
        except TimeoutError:
            return False
        return True

    async def read_line(self) -> str | None:
        """A line as it is typed, echoed, with backspace; None after Ctrl-C."""
        typed = ""
        while (byte := await self.key()) not in (10, 13):
            if byte == 3:
                await self.write("^C\n")
                return None
            if byte in (8, 127):
                typed = await self._rub_out(typed)
            elif byte >= 32:
                typed += chr(byte)
                await self.write(chr(byte))
        await self.write("\n")
        return typed

    async def _rub_out(self, typed: str) -> str:
        if typed:
            await self.write("\b \b")
        return typed[:-1]
