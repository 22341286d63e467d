"""A program with probe-rs's command line, outputs and exit codes, as the sources of probe-rs-tools 0.31 have them.

Run by `testing.py`, with a folder as first argument: `flash.bin` is the flash of an LM3S6965, `calls.jsonl` the command
lines so far, and `fault`, if it is there, says what goes wrong. The gdb server is QEMU's, with that flash in a real
Cortex-M3. No jsnats is imported: it starts in 30 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

FLASH = range(0, 256 << 10)
RAM = range(0x2000_0000, 0x2001_0000)
PROBE = "1366:0101:000123456789"
"""Of the J-Link that is connected."""


class Parser(argparse.ArgumentParser):
    """Refuses as clap does: exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong."""
        print(f"error: {message}\n\nFor more information, try '--help'.", file=sys.stderr)
        sys.exit(2)


def fail(message: str, *causes: str) -> NoReturn:
    """End as an `anyhow::Error` from `main` does."""
    print(f"Error: {message}", file=sys.stderr)
    if causes:
        numbered = (f"{n}: {each}" for n, each in enumerate(causes)) if len(causes) > 1 else causes
        print("\nCaused by:", *(f"    {each}" for each in numbered), sep="\n", file=sys.stderr)
    sys.exit(1)


class StandIn:
    """One run of it."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.flash = folder / "flash.bin"
        self.options = options
        fault = folder / "fault"
        self.fault = fault.read_text() if fault.exists() else ""

    def attached(self) -> None:
        """What every command does first."""
        if self.fault == "no probe":
            fail("No connected probes were found.")
        if self.fault == "several probes":
            self._several()
        if self.options.probe and not PROBE.startswith(self.options.probe):
            fail("Failed to open the debug probe.", "The probe was not found.")
        if (self.options.chip or "LM3S6965").upper() != "LM3S6965":
            fail(f"The chip '{self.options.chip}' was not found in the database.", "The requested chip was not found.")
        if self.fault == "no target":
            # tracing's colours are there whether or not stderr is a terminal
            print("\x1b[33m WARN\x1b[0m \x1b[2mprobe_rs::session\x1b[0m\x1b[2m:\x1b[0m no response", file=sys.stderr)
            fail("Connecting to the chip was unsuccessful.", "An ARM specific error occurred.", "No acknowledge")
        if self.fault == "hangs":
            signal.pause()

    def _several(self) -> NoReturn:
        listed = ["J-Link -- 1366:0101:1 (J-Link)", "Debug Probe -- 2e8a:000c:2 (CMSIS-DAP)"]
        if os.environ.get("PROBE_RS_NON_INTERACTIVE") == "true":
            fail("2 probes were found: " + "".join(f"\n    {n}. {each}" for n, each in enumerate(listed, 1)))
        sys.stdin.readline()
        fail("Failed to parse probe index selection", "cannot parse integer from empty string")

    def info(self) -> None:
        """`info`, as it was until 0.31: a target that is not there is told on stdout, with exit code 0."""
        for protocol in [self.options.protocol.upper()] if self.options.protocol else ["JTAG", "SWD"]:
            title = f"Probing target via {protocol}"
            print(title, "-" * len(title), "", sep="\n")
            if self.fault == "no target":
                print("Error while probing target: An ARM specific error occurred.\n\nCaused by:\n    No acknowledge")
            else:
                print("ARM Chip with debug port Default:\nDebug Port: DPv1, Designer: ARM Ltd\n")

    def reset(self) -> None:
        """`reset` says nothing."""
        self.attached()

    def erase(self) -> None:
        """`erase`: all of the flash."""
        self.attached()
        self.flash.write_bytes(b"\xff" * len(FLASH))
        bars("Erasing")

    def download(self) -> None:
        """`download`: decode, program, verify."""
        self.attached()
        flash = bytearray(self.flash.read_bytes())
        for address, data in image(self.options):
            if data and not (address in FLASH and address + len(data) - 1 in FLASH):
                fail("No flash memory contains the entire requested memory range")
            flash[address : address + len(data)] = data
        bars("Erasing", "Programming")
        self.flash.write_bytes(flash)
        if self.options.verify:
            bars("Verifying")
            if self.fault == "bad flash":
                path = self.options.path
                fail(f"The flashing procedure failed for '{path}'.", "Verification failed: contents do not match")
        print("     Finished in 0.03s", file=sys.stderr)

    def read(self) -> None:
        """`read` in its default format, a table of hexadecimal words."""
        self.attached()
        size = int(self.options.width[1:]) // 8
        address, count = int(self.options.address, 0), size * int(self.options.words)
        if address % size:
            fail("Alignment error", f"The address {address:#x} is not aligned to {size} bytes")
        data = self._memory(address, count)
        for begin in range(0, count, line := {1: 8, 2: 16}.get(size, 32)):
            part = data[begin : begin + line]
            print(f"{address + begin:08x}:", *(part[n : n + size][::-1].hex() for n in range(0, len(part), size)))

    def _memory(self, address: int, count: int) -> bytes:
        if address in FLASH and address + count - 1 in FLASH:
            return self.flash.read_bytes()[address : address + count]
        if address in RAM and address + count - 1 in RAM:
            return bytes(count)
        fail("An ARM specific error occurred.", "Target device responded with a FAULT response to the request.")

    def attach(self) -> None:
        """`attach`: RTT from the running target, for ever or until the firmware panics."""
        self.attached()
        for number in range(3):
            print(f"beat {number}", flush=True)
        if self.fault == "panics":
            print("Firmware exited unexpectedly: Exception")
            fail("Exception")
        signal.pause()

    def gdb(self) -> None:
        """`gdb`: QEMU instead of the stub; its connection string is an address."""
        self.attached()
        if self.fault == "slow":
            time.sleep(2.5)
        host, _, port = self.options.gdb_connection_string.rpartition(":")
        print(f"Firing up GDB stub for Armv7m cores at [{host}:{port}]", flush=True)
        if self.fault == "port taken":
            print("During the execution of GDB an error was encountered:", file=sys.stderr)
            print("Address already in use (os error 98)", file=sys.stderr)
            return
        core = ["-M", "lm3s6965evb", "-display", "none", "-serial", "null", "-monitor", "none", "-S"]
        flash = ["-device", f"loader,file={self.flash},addr=0,force-raw=on"]
        os.execvp("qemu-system-arm", ["qemu-system-arm", *core, *flash, "-gdb", f"tcp:{host}:{port}"])


def bars(*operations: str) -> None:
    """indicatif's bars on stderr, if that is a terminal that can show them; else nothing."""
    if not os.isatty(2) or os.environ.get("TERM") in {None, "dumb"}:
        return
    for operation in operations:
        for percent in (0, 50, 100):
            drawn = "#" * (percent // 5)
            line = f"\x1b[32m\x1b[1m{operation:>13}\x1b[0m \N{BRAILLE PATTERN DOTS-1} {percent:>3}% [{drawn:-<20}]"
            print(f"\r\x1b[2K{line}   4.00 KiB @  9.00 KiB/s (ETA 0s)", end="", file=sys.stderr, flush=True)
            time.sleep(0.01)
        print(file=sys.stderr)


def image(options: argparse.Namespace) -> Iterator[tuple[int, bytes]]:
    """Addresses and bytes of the image; ELF unless told otherwise, as probe-rs does."""
    data = Path(options.path).read_bytes()
    kind = options.binary_format or "elf"
    if kind == "bin":
        yield int(options.base_address or "0", 0), data
    elif kind == "hex":
        yield from _hex(data.decode())
    elif kind == "elf":
        if not data.startswith(b"\x7fELF"):
            fail("Failed to load the ELF data.", "Could not parse the ELF file: Unknown file magic")
        yield from _elf(data)
    else:
        fail(f"the stand-in knows no {kind}")


def _hex(text: str) -> Iterator[tuple[int, bytes]]:
    base = 0
    for line in text.split():
        size, address, kind = struct.unpack(">BHB", bytes.fromhex(line[1:9]))
        payload = bytes.fromhex(line[9 : 9 + 2 * size])
        if kind == 0:
            yield base + address, payload
        elif kind == 4:
            base = int.from_bytes(payload) << 16


def _elf(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset, size, count = (struct.unpack_from("<I", data, 28)[0], *struct.unpack_from("<HH", data, 42))
    for number in range(count):
        kind, begin, _, address, length = struct.unpack_from("<IIIII", data, offset + number * size)
        if kind == 1:
            yield address, data[begin : begin + length]


def parser() -> Parser:
    """The command line."""
    base = Parser(prog="probe-rs", allow_abbrev=False)
    commands = base.add_subparsers(dest="command", required=True, parser_class=Parser)
    for name in ("info", "reset", "erase", "download", "read", "attach", "gdb"):
        command = commands.add_parser(name, allow_abbrev=False)
        _options(command, "--chip", "--speed", "--protocol", "--probe")
        command.add_argument("--connect-under-reset", action="store_true")
        command.add_argument("--non-interactive", action="store_true")
        if name == "download":
            _options(command, "--base-address")
            command.add_argument("--binary-format", choices=["bin", "elf", "hex", "idf", "uf2"])
            command.add_argument("--verify", action="store_true")
            command.add_argument("path")
        elif name == "attach":
            command.add_argument("path", nargs="?")
        elif name == "read":
            command.add_argument("width", choices=["b8", "b16", "b32", "b64"])
            command.add_argument("address")
            command.add_argument("words")
        elif name == "gdb":
            command.add_argument("--gdb-connection-string", default="localhost:1337")
    return base


def _options(command: Any, *names: str) -> None:
    for name in names:
        command.add_argument(name)


def main() -> None:
    """Run, and keep the command line."""
    folder, arguments = Path(sys.argv[1]), sys.argv[2:]
    options = parser().parse_args(arguments)
    if options.protocol and not re.fullmatch("(?i)swd|jtag", options.protocol):
        Parser(prog="probe-rs").error(f"invalid value '{options.protocol}' for '--protocol <PROTOCOL>'")
    with (folder / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"pid": os.getpid(), "arguments": arguments}) + "\n")
    getattr(StandIn(folder, options), options.command)()


if __name__ == "__main__":
    main()
