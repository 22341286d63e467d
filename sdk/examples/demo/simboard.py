"""A simulated board on a real pty: bootloader, kernel log, login, shell, and a web server once it is up.

    python simboard.py --console FOLDER/console --flash FOLDER/flash.img --port 8080

`--console` becomes a symbolic link to the pty, as udev makes one for a serial adapter: it is there from start to end,
whether the board has power or not. Standard input is the power cable: the lines `on` and `off` switch it, its end
unplugs everything. `--flash` is what the board boots, read at each boot. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import pty
import select
import sys
import time
import tty
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

COUNTDOWN = 3
COUNT_S = 0.4
LOG_LINE_S = 0.02
NOBODY_S = 1.0
"""How long output waits for a full line buffer before it is lost, as it is on a wire that nobody reads."""
HOST = "127.0.0.1"

KERNEL_LOG = (
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


class Restart(Exception):
    """The board was told to begin again."""


class Halt(Exception):
    """The board was told to stop; only its power switch wakes it."""


class Board:
    """What runs while there is power. `flash` is the image it boots, `port` where its web server listens (0: none)."""

    def __init__(self, line: Line, flash: Path, port: int) -> None:
        self._line = line
        self._flash = flash
        self._port = port
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
                return

    # ------------------------------------------------------------------ bootloader

    async def _boot(self) -> None:
        image, size = await asyncio.to_thread(_identify, self._flash)
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
            if await self._line.key_within(COUNT_S):
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

    # ------------------------------------------------------------------ kernel and shell

    async def _kernel(self) -> None:
        await self._line.write("Starting kernel ...\n\n")
        self._log, self._started = [], time.monotonic()
        for text in KERNEL_LOG:
            await self._say(text)
            await asyncio.sleep(LOG_LINE_S)
        server = WebServer(self._status)
        try:
            if self._port:
                await self._say(await server.open(self._port))
            await self._sessions()
        finally:
            server.close()

    async def _say(self, text: str) -> None:
        self._log.append(f"[{time.monotonic() - self._started:12.6f}] {text}")
        await self._line.write(f"{self._log[-1]}\n")

    def _status(self) -> dict[str, object]:
        return {"board": "sim", "image": self._image, "uptime_s": round(time.monotonic() - self._started, 3)}

    async def _sessions(self) -> None:
        while True:
            await self._line.write("\nsim-board login: ")
            name = await self._line.read_line()
            if name == "root":
                await self._shell()
            elif name:
                await self._line.write("Login incorrect\n")

    async def _shell(self) -> None:
        commands: dict[str, Callable[[str], str]] = {
            "dmesg": lambda _: "".join(f"{line}\n" for line in self._log),
            "echo": lambda words: f"{words}\n",
            "help": lambda _: "dmesg echo exit help poweroff reboot seq uname version\n",
            "seq": lambda words: "".join(f"{number}\n" for number in range(1, 1 + int(words))),
            "uname": lambda words: f"Linux sim-board 6.12.0-sim #1 SMP {platform.machine()}\n" if words else "Linux\n",
            "version": lambda _: f"{self._image}\n",
        }
        while True:
            await self._line.write("# ")
            name, _, rest = ((await self._line.read_line()) or "").strip().partition(" ")
            if name == "exit":
                return
            if name in ("reboot", "poweroff"):
                await self._down(name)
            if name:
                await self._line.write(_output(commands.get(name), name, rest))

    async def _down(self, how: str) -> None:
        await self._say("EXT4-fs (mmcblk0p2): unmounting filesystem")
        await self._say("reboot: Restarting system" if how == "reboot" else "reboot: Power down")
        raise Restart if how == "reboot" else Halt


def _output(command: Callable[[str], str] | None, name: str, rest: str) -> str:
    if command is None:
        return f"sh: {name}: not found\n"
    try:
        return command(rest.strip())
    except ValueError:
        return f"{name}: invalid argument '{rest.strip()}'\n"


def _identify(flash: Path) -> tuple[str, int]:
    """The first 12 digits of the SHA-256 of the image and its size; "" and 0 without one."""
    try:
        with flash.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return digest[:12], file.tell()
    except FileNotFoundError:
        return "", 0


class WebServer:
    """Answers every HTTP request with the board's status as JSON."""

    def __init__(self, status: Callable[[], dict[str, object]]) -> None:
        self._status = status
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self, port: int) -> str:
        """Listen on this host only, from elsewhere the board is reached through its exporter; return the log line."""
        try:
            self._server = await asyncio.start_server(self._on_client, HOST, port)
        except OSError as error:
            return f"httpd: {error}"
        return f"httpd: listening on port {port}"

    def close(self) -> None:
        """Cut every connection, as a board without power does."""
        if self._server:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = json.dumps(self._status()).encode() + b"\n"
            head = f"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # whoever asked is gone, or did not speak HTTP
        finally:
            self._open.discard(writer)
            writer.close()


class Supply:
    """The board's power: each `on` begins a new life, `off` ends it at once."""

    def __init__(self, line: Line, flash: Path, port: int) -> None:
        self._line, self._flash, self._port = line, flash, port
        self._life: asyncio.Task[None] | None = None

    async def switch(self, on: bool) -> None:
        """Return when the board is off, or has begun to boot. On twice is on once."""
        if on and self._life is None:
            self._line.forget_typed()
            self._life = asyncio.create_task(Board(self._line, self._flash, self._port).run())
        elif not on and self._life is not None:
            self._life.cancel()
            await asyncio.wait({self._life})
            self._life = None


async def serve(console: Path, flash: Path, port: int) -> None:
    """Run the board until standard input ends. Each switch is answered with a line on standard output."""
    cable = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(cable), sys.stdin)
    line = Line(console)
    supply = Supply(line, flash, port)
    try:
        print("ready", flush=True)
        while command := (await cable.readline()).decode().strip():
            await supply.switch(command == "on")
            print(command, flush=True)
    finally:
        await supply.switch(False)
        line.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A simulated board; `on` and `off` on standard input switch it.")
    parser.add_argument("--console", type=Path, required=True, help="where to put the link to its serial line")
    parser.add_argument("--flash", type=Path, required=True, help="the image it boots; need not be there yet")
    parser.add_argument("--port", type=int, default=0, help="where its web server listens; without it, there is none")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(options.console, options.flash, options.port))


if __name__ == "__main__":
    main()
