"""What the board does while it has power: bootloader, kernel log, login and shell."""

from __future__ import annotations

import asyncio
import hashlib
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .line import Line
from .web import WebServer

LOADER_W: Final = 2.0
KERNEL_W: Final = 4.5
IDLE_W: Final = 1.5
BUSY_W: Final = 6.0
HALTED_W: Final = 0.1
"""What the board draws, in W: in its bootloader, while the kernel boots, at the shell, under load, and halted."""

COUNTDOWN: Final = 3
KERNEL_SHARE: Final = 0.2
"""Share of the boot time that is the kernel's; the rest is the bootloader's countdown."""

BOOTS: Final = ("normal", "hang", "reset")
"""How it boots: to a login; until the kernel hangs; until the kernel panics and restarts, again and again."""

LOG: Final = (
    "Linux version 6.12.0-sim (demo@jsnats) #1 SMP",
    "Machine model: jsnats simulated board",
    "Memory: 505312K/524288K available",
    "smp: Brought up 1 node, 2 CPUs",
    "clocksource: Switched to clocksource arch_sys_counter",
    "Serial: 8250/16550 driver, 4 ports, IRQ sharing disabled",
    "10009000.serial: ttyS0 at MMIO 0x10009000 (irq = 29) is a 16550A",
    "mmc0: new high speed SDHC card at address 0001",
    "EXT4-fs (mmcblk0p2): mounted filesystem, ordered data mode",
    "Run /sbin/init as init process",
)
FAULT_AT: Final = 8
"""The line of the log at which a board with a fault has it: before it finds its root."""

CTRL_C: Final = 3


@dataclass(frozen=True)
class Setup:
    """A board's folder and how it is built: `boot_time` in s, `boot` one of BOOTS."""

    folder: Path
    hostname: str
    boot_time: float
    boot: str

    @property
    def flash(self) -> Path:
        """The image it boots."""
        return self.folder / "flash.img"


class Restart(Exception):
    """The board was told to begin again."""


class Halt(Exception):
    """The board was told to stop; only its power switch wakes it."""


class Board:
    """What runs while there is power; `draw` is told how many W it takes from then on."""

    def __init__(self, line: Line, setup: Setup, draw: Callable[[float], None]) -> None:
        self._line = line
        self._setup = setup
        self._draw = draw
        self._image = ""
        self._log: list[str] = []
        self._started = 0.0

    async def run(self) -> None:
        """Boot, again after each restart, until the power goes or it is halted."""
        while True:
            try:
                await self._boot()
            except Restart:
                continue
            except Halt:
                self._draw(HALTED_W)
                return

    # ------------------------------------------------------------------ bootloader

    async def _boot(self) -> None:
        self._draw(LOADER_W)
        image, size = await asyncio.to_thread(_identify, self._setup.flash)
        self._image = image
        await self._line.write("\nSimBoot 2026.01 (jsnats simulated board)\nDRAM:  512 MiB\n")
        await self._line.write(f"Flash: {size} bytes, sha256 {image}\n" if image else "Flash: empty\n")
        if await self._interrupted():
            await self._loader_prompt()
        if not self._image:
            await self._line.write("no image\n")
            await self._loader_prompt()
        await self._kernel()

    async def _interrupted(self) -> bool:
        await self._line.write(f"Hit any key to stop autoboot:  {COUNTDOWN}")
        for count in reversed(range(COUNTDOWN)):
            if await self._line.key_within(self._setup.boot_time * (1 - KERNEL_SHARE) / COUNTDOWN):
                await self._line.write("\n")
                return True
            await self._line.write(f"\b{count}")
        await self._line.write("\n")
        return False

    async def _loader_prompt(self) -> None:
        while True:
            await self._line.write("=> ")
            words = ((await self._line.read_line()) or "").split()
            match words[:1]:
                case []:
                    continue
                case ["boot"] if self._image:
                    return
                case ["boot"]:
                    await self._line.write("no image\n")
                case ["reset"]:
                    raise Restart
                case ["version"]:
                    await self._line.write("SimBoot 2026.01\n")
                case ["help"]:
                    await self._line.write("boot help reset version\n")
                case [unknown]:
                    await self._line.write(f"Unknown command '{unknown}' - try 'help'\n")

    # ------------------------------------------------------------------ kernel

    async def _kernel(self) -> None:
        await self._line.write("Starting kernel ...\n\n")
        self._draw(KERNEL_W)
        self._log, self._started = [], time.monotonic()
        for number, text in enumerate(LOG):
            if number == FAULT_AT:
                await self._fail()
            await self._say(text)
            await asyncio.sleep(self._setup.boot_time * KERNEL_SHARE / len(LOG))
        server = WebServer(self._status)
        try:
            await self._say(await server.open(self._setup.folder / "web"))
            await self._sessions()
        finally:
            server.close()

    async def _fail(self) -> None:
        if self._setup.boot == "hang":
            await asyncio.Event().wait()
        if self._setup.boot == "reset":
            await self._say("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(179,2)")
            raise Restart

    async def _say(self, text: str) -> None:
        self._log.append(f"[{time.monotonic() - self._started:12.6f}] {text}")
        await self._line.write(f"{self._log[-1]}\n")

    def _status(self) -> dict[str, object]:
        uptime_s = round(time.monotonic() - self._started, 3)
        return {"board": self._setup.hostname, "image": self._image, "uptime_s": uptime_s}

    # ------------------------------------------------------------------ login and shell

    async def _sessions(self) -> None:
        self._draw(IDLE_W)
        while True:
            await self._line.write(f"\n{self._setup.hostname} login: ")
            name = await self._line.read_line()
            if name == "root":
                await self._shell()
            elif name:
                await self._line.write("Login incorrect\n")

    async def _shell(self) -> None:
        uname = f"Linux {self._setup.hostname} 6.12.0-sim #1 SMP {platform.machine()}\n"
        commands: dict[str, Callable[[str], str]] = {
            "dmesg": lambda _: "".join(f"{line}\n" for line in self._log),
            "echo": lambda words: f"{words}\n",
            "help": lambda _: "dmesg echo exit help poweroff reboot seq stress uname version\n",
            "seq": lambda words: "".join(f"{number}\n" for number in range(1, 1 + int(words))),
            "uname": lambda words: uname if words else "Linux\n",
            "version": lambda _: f"{self._image}\n",
        }
        while True:
            await self._line.write("# ")
            name, _, rest = ((await self._line.read_line()) or "").strip().partition(" ")
            if name == "exit":
                return
            if name in ("reboot", "poweroff"):
                await self._down(name)
            elif name == "stress":
                await self._stress(rest.strip())
            elif name:
                await self._line.write(_output(commands.get(name), name, rest.strip()))

    async def _stress(self, seconds: str) -> None:
        """Keep both processors busy for so long, or until Ctrl-C."""
        if not seconds.isdecimal():
            await self._line.write(f"stress: invalid argument '{seconds}'\n")
            return
        self._draw(BUSY_W)
        try:
            async with asyncio.timeout(int(seconds)):
                while await self._line.key() != CTRL_C:
                    pass
            await self._line.write("^C\n")
        except TimeoutError:
            pass
        self._draw(IDLE_W)

    async def _down(self, how: str) -> None:
        await self._say("EXT4-fs (mmcblk0p2): unmounting filesystem")
        await self._say("reboot: Restarting system" if how == "reboot" else "reboot: Power down")
        raise Restart if how == "reboot" else Halt


def _output(command: Callable[[str], str] | None, name: str, rest: str) -> str:
    if command is None:
        return f"sh: {name}: not found\n"
    try:
        return command(rest)
    except ValueError:
        return f"{name}: invalid argument '{rest}'\n"


def _identify(flash: Path) -> tuple[str, int]:
    """The first 12 digits of the SHA-256 of the image and its size; "" and 0 without one."""
    try:
        with flash.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return digest[:12], file.tell()
    except FileNotFoundError:
        return "", 0
