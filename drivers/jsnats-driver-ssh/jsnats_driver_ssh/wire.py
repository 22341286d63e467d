"""The data types of ssh (RFC 4251, section 5)."""

from __future__ import annotations

import struct


def string(data: bytes) -> bytes:
    """Length and bytes."""
    return struct.pack(">I", len(data)) + data


def mpint(number: int) -> bytes:
    """A number that is not negative, with a zero in front where its first bit is set."""
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big") if number else b"")


class Reader:
    """Takes one value after the other. Each raises ValueError when there is not enough left."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def take(self, count: int) -> bytes:
        """So many bytes."""
        if count > len(self._rest):
            raise ValueError("it is cut short")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def byte(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def uint32(self) -> int:
        """Four bytes."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """Length and bytes."""
        return self.take(self.uint32())
