"""What both sides say alike, in probe-rs's own words."""

from typing import Literal

BinaryFormat = Literal["bin", "elf", "hex", "idf", "uf2"]
Width = Literal[8, 16, 32, 64]
"""Bits in one word of a `read`."""
