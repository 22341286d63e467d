"""What kind of file an image is. probe-rs takes each for ELF unless told."""

from __future__ import annotations

import re
from pathlib import Path

from .common import BinaryFormat

_UF2 = b"UF2\n"
_HEX = re.compile(rb":[0-9A-Fa-f]{10,}\r?\n")
_HEAD = 600
"""Bytes that are looked at: more than the longest line of Intel HEX."""


def format_of(path: Path) -> BinaryFormat | None:
    """The format by the first bytes; None for ELF, of which probe-rs makes what the chip boots (`idf` for an ESP32)."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"\x7fELF"):
        return None
    if head.startswith(_UF2):
        return "uf2"
    return "hex" if _HEX.match(head) else "bin"
