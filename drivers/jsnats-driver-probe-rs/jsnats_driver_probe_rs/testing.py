"""For tests: a stand-in for probe-rs with one probe and one target, an LM3S6965, whose core is QEMU's."""

from __future__ import annotations

import json
import shlex
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .stand_in import FLASH, PROBE

__all__ = ["FLASH", "PROBE", "Bench", "elf", "firmware", "intel_hex", "is_alive"]

Fault = Literal[
    "", "no probe", "several probes", "no target", "hangs", "bad flash", "panics", "port taken", "slow"
]  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """The folder of a stand-in: its program, its flash, and what it was called with."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "flash.bin").write_bytes(b"\xff" * len(FLASH))
        self.program.write_text(
            f'#!/bin/sh\nexec {shlex.join([sys.executable, "-I", "-S", _SCRIPT, str(self.folder)])} "$@"\n'
        )
        self.program.chmod(0o755)

    @property
    def program(self) -> Path:
        """What `probe_rs_path` is to be."""
        return self.folder / "probe-rs"

    def break_by(self, fault: Fault) -> None:
        """From now on this goes wrong; "" is nothing."""
        (self.folder / "fault").write_text(fault)

    def flash(self) -> bytes:
        """All of the flash."""
        return (self.folder / "flash.bin").read_bytes()

    def calls(self) -> list[dict[str, Any]]:
        """`pid` and `arguments` of each run so far."""
        kept = self.folder / "calls.jsonl"
        return [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []

    def is_running(self) -> bool:
        """Say whether any run has not ended."""
        return any(is_alive(each["pid"]) for each in self.calls())

    def pid(self) -> int:
        """Of the last run, which may have ended."""
        return int(self.calls()[-1]["pid"])


def is_alive(pid: int) -> bool:
    """Say whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


_SCRIPT = str(Path(__file__).with_name("stand_in.py"))


def firmware() -> bytes:
    """A program for a Cortex-M from address 0 on: puts 42 into r0, and stays there."""
    vectors = struct.pack("<II", 0x2001_0000, 8 | 1)
    movs_r0_42, branch_to_itself = 0x202A, 0xE7FE
    return vectors + struct.pack("<HH", movs_r0_42, branch_to_itself)


def elf(data: bytes, address: int = 0) -> bytes:
    """An ELF file for ARM with one segment."""
    begin = 52 + 32
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    header = struct.pack("<HHIIIIIHHHHHH", 2, 40, 1, 9, 52, 0, 0x0500_0200, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, begin, address, address, len(data), len(data), 5, 4)
    return ident + header + segment + data


def intel_hex(data: bytes, address: int = 0) -> bytes:
    """The same as Intel HEX."""
    records = [_record(4, 0, (address >> 16).to_bytes(2))]
    for begin in range(0, len(data), 16):
        records.append(_record(0, (address + begin) & 0xFFFF, data[begin : begin + 16]))
    return b"".join([*records, _record(1, 0, b"")])


def _record(kind: int, address: int, data: bytes) -> bytes:
    body = struct.pack(">BHB", len(data), address, kind) + data
    return b":" + (body + bytes([-sum(body) & 0xFF])).hex().upper().encode() + b"\n"
