"""What an image is, read from its header alone: QEMU is never asked to guess.

A guess would let a guest that writes a header onto its raw disk name any file of the exporter as the rest of it, and an
uploaded qcow2 may do so without guessing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

_MAGIC: Final = b"QFI\xfb"
_HEADER: Final = 104
_EXTERNAL_DATA: Final = 1 << 2


@dataclass(frozen=True)
class Image:
    """An image of `size` bytes, as the guest sees it."""

    path: Path
    format: Literal["raw", "qcow2"]
    size: int

    @classmethod
    def of(cls, path: Path) -> Image:
        """Look at a file. Raises ValueError for a qcow2 that is not whole or leads to other files, and OSError."""
        with path.open("rb") as file:
            header = file.read(_HEADER)
        if not header.startswith(_MAGIC):
            return cls(path, "raw", path.stat().st_size)
        return cls(path, "qcow2", _qcow2_size(header))


def _qcow2_size(header: bytes) -> int:
    if len(header) < _HEADER:
        raise ValueError("the image is damaged: its qcow2 header is not whole")
    version, backing = struct.unpack_from(">IQ", header, 4)
    (size,) = struct.unpack_from(">Q", header, 24)
    features = struct.unpack_from(">Q", header, 72)[0] if version >= 3 else 0
    if version not in (2, 3):
        raise ValueError(f"the image is qcow2 of version {version}: convert it with qemu-img convert -O qcow2")
    if backing or features & _EXTERNAL_DATA:
        raise ValueError("the image needs another file: make it whole with qemu-img convert -O qcow2")
    return int(size)
