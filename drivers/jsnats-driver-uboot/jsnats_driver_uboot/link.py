"""The console that U-Boot is on: what it has said since it was attached, and a way to type."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import anyio

from jsnats.driver import Console, Driver

T = TypeVar("T")

LIMIT: Final = 1 << 20
"""Bytes that are kept; a command that says more is ended."""
LOOK_S: Final = 0.4
"""After such a silence it is asked whether the console is still there; shorter than whatever waits here in steps."""
TELL_S: Final = 0.5
SHOWN: Final = 200
"""Characters of a console that an error shows."""

Tell = Callable[[float, None, str], None]


class Link:
    """An attached console. `said` is all that came, `fresh` where the last piece of it begins."""

    def __init__(self, serial: Driver, stream: Any, tell: Tell) -> None:
        self.said = bytearray()
        self.fresh = 0
        self._serial = serial
        self._stream = stream
        self._tell = tell
        self._told = time.monotonic()

    @classmethod
    @asynccontextmanager
    async def attach(cls, serial: Any, tell: Tell) -> AsyncGenerator[Link, None]:
        """Attach as its writer; `tell` is told now and then how many bytes came, and the last line of them.

        Raises ConnectionError or TimeoutError when it is not there, DriverError when somebody else types.
        """
        async with serial.connect() as opened:
            yield cls(serial, opened[0] if isinstance(opened, tuple) else opened, tell)

    @property
    def last(self) -> str:
        """For an error: the last that came."""
        tail = text_of(self.said[-SHOWN:]).strip()
        return f"the last it said: {tail!r}" if tail else "it said nothing"

    async def send(self, data: bytes) -> None:
        """Type. Raises ConnectionError."""
        with _lost():
            await self._stream.send(data)

    async def until(self, found: Callable[[], T | None]) -> T:
        """Return what `found` finds, which is called again with each piece that comes. Raises as `more`."""
        while not (result := found()):
            await self.more()
        return result

    async def more(self) -> None:
        """Wait until something comes. Raises ConnectionError when the console is gone, OSError when it was too much."""
        data = b""
        while not data:
            with anyio.move_on_after(LOOK_S), _lost():
                data = await self._stream.receive()
            if not data:
                await self._look()
        self.fresh = len(self.said)
        self.said += data
        if len(self.said) > LIMIT:
            raise OSError(f"the console said more than {LIMIT >> 10} KiB; {self.last}")
        self._progress()

    async def _look(self) -> None:
        status = await self._serial.status() if isinstance(self._serial, Console) else {"open": True}
        if not status["open"]:
            raise ConnectionError(f"the console is gone: {status['reason']}; {self.last}")

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._told >= TELL_S:
            self._told = now
            lines = text_of(self.said[-SHOWN:]).split("\n")
            self._tell(len(self.said), None, next((line for line in lines[::-1] if line.strip()), ""))


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        raise ConnectionError(f"the console has closed: {error or type(error).__name__}") from error


def text_of(data: bytes | bytearray) -> str:
    """What a console said, as text with plain line ends."""
    return data.decode("utf-8", "replace").replace("\r\n", "\n")
