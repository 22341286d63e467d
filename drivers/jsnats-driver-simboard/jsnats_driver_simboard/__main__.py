"""A simulated board as a process.

    python -m jsnats_driver_simboard FOLDER

`FOLDER/console` is a symbolic link to the board's pty, there from start to end, whether the board has power or not.
`FOLDER/flash.img` is what it boots, read at each boot, and `FOLDER/web` the socket of its web server.

Standard input is the power cable: the lines `on` and `off` switch it, its end unplugs everything and removes the
folder, so nothing is left when whoever holds the cable is killed. On standard output each switch is answered, and
`draw 4.5` says that from now on the board draws so many watts.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from .board import BOOTS, Board, Setup
from .line import Line


class Switch:
    """The board's power: each `on` begins a new life, `off` ends it at once."""

    def __init__(self, line: Line, setup: Setup) -> None:
        self._line, self._setup = line, setup
        self._life: asyncio.Task[None] | None = None

    async def switch(self, on: bool) -> None:
        """Return when the board is off, or has begun to boot. On twice is on once."""
        if on and self._life is None:
            self._line.forget_typed()
            self._life = asyncio.create_task(Board(self._line, self._setup, _draw).run())
        elif not on and self._life is not None:
            self._life.cancel()
            await asyncio.wait({self._life})
            self._life = None


def _draw(watts: float) -> None:
    _say(f"draw {watts:g}")


def _say(text: str) -> None:
    with suppress(BrokenPipeError):  # whoever held the cable is gone, and its other end says so next
        print(text, flush=True)


async def serve(setup: Setup) -> None:
    """Run the board until standard input ends."""
    cable = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(cable), sys.stdin)
    line = Line(setup.folder / "console")
    switch = Switch(line, setup)
    try:
        _say("ready")
        while command := (await cable.readline()).decode().strip():
            await switch.switch(command == "on")
            _say(command)
    finally:
        await switch.switch(False)
        line.close()
        for image in setup.folder.glob("flash.*"):  # and one that was being written
            image.unlink()
        with suppress(OSError):  # somebody has put something into it
            setup.folder.rmdir()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A simulated board; `on` and `off` on standard input switch it.")
    parser.add_argument("folder", type=Path, help="where its serial line, flash and web server are")
    parser.add_argument("--hostname", default="sim-board")
    parser.add_argument("--boot-time", type=float, default=1.5, help="seconds from power to login")
    parser.add_argument("--boot", choices=BOOTS, default="normal", help="how it boots")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(Setup(**vars(options))))


if __name__ == "__main__":
    main()
