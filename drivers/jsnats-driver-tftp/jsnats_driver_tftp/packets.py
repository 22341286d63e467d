"""TFTP's datagrams, taken apart and put together, and what options are agreed on: no I/O.

RFC 1350, and the options of RFC 2347: `blksize` (2348), `timeout` and `tsize` (2349), `windowsize` (7440).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

BLOCK_SIZE: Final = 512
"""Bytes of a block when none are agreed on."""
MAX_BLOCK_SIZE: Final = 65464
MAX_WINDOW: Final = 16
"""Blocks; who asks for more gets this. It is four times as fast as one, and with 32 the network of U-Boot hangs."""


class Opcode(IntEnum):
    """Of a datagram, its first two bytes."""

    READ = 1
    WRITE = 2
    DATA = 3
    ACK = 4
    ERROR = 5
    OACK = 6


class Code(IntEnum):
    """Of an error."""

    UNDEFINED = 0
    NOT_FOUND = 1
    ACCESS = 2
    ILLEGAL = 4


class Malformed(ValueError):
    """No datagram of TFTP that a server takes."""


@dataclass(frozen=True, slots=True)
class Request:
    """A file is asked for, or offered (`write`). `mode` and the names of options are in lower case."""

    filename: str
    mode: str = "octet"
    options: Mapping[str, str] = field(default_factory=dict)
    write: bool = False


@dataclass(frozen=True, slots=True)
class Ack:
    """The client has this block, and all before it."""

    block: int


@dataclass(frozen=True, slots=True)
class Failure:
    """The client gives up."""

    code: int
    message: str


Packet = Request | Ack | Failure


def parse(datagram: bytes) -> Packet:
    """What a client says. Raises Malformed."""
    opcode, rest = int.from_bytes(datagram[:2], "big"), datagram[2:]
    if opcode in (Opcode.READ, Opcode.WRITE):
        return _request(rest, write=opcode == Opcode.WRITE)
    if opcode == Opcode.ACK and len(rest) >= 2:
        return Ack(int.from_bytes(rest[:2], "big"))
    if opcode == Opcode.ERROR and len(rest) >= 2:
        return Failure(int.from_bytes(rest[:2], "big"), rest[2:].partition(b"\0")[0].decode("utf-8", "replace"))
    raise Malformed(f"opcode {opcode} with {len(rest)} bytes")


def _request(rest: bytes, *, write: bool) -> Request:
    *texts, after = rest.split(b"\0")
    if after or len(texts) < 2 or not texts[0]:
        raise Malformed("a request is a file, a mode and pairs of options, each with a zero byte behind it")
    filename, mode, *options = texts
    pairs: dict[str, str] = {}
    for name, value in zip(options[::2], options[1::2], strict=False):  # some fill up with zero bytes
        if name:
            pairs.setdefault(name.decode("ascii", "replace").lower(), value.decode("ascii", "replace"))
    return Request(os.fsdecode(filename), mode.decode("ascii", "replace").lower(), pairs, write)


def data(number: int, payload: bytes) -> bytes:
    """A block; numbers go on at 0 after 65535."""
    return b"\0\3" + (number & 0xFFFF).to_bytes(2, "big") + payload


def oack(options: Mapping[str, str]) -> bytes:
    """The options that the server takes."""
    return b"\0\6" + b"".join(f"{name}\0{value}\0".encode() for name, value in options.items())


def error(code: Code, message: str) -> bytes:
    """The server gives up."""
    return b"\0\5" + code.to_bytes(2, "big") + message.encode("utf-8", "replace") + b"\0"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a file is sent: bytes of a block, blocks without an answer, seconds until what has none is sent again (None:
    the client left it to us). `answer` are the options that the client is told, none for no answer."""

    block_size: int = BLOCK_SIZE
    window: int = 1
    timeout_s: float | None = None
    answer: Mapping[str, str] = field(default_factory=dict)


def agree(options: Mapping[str, str], size: int | None) -> Settings:
    """What a client's options come to, for a file of `size` bytes (None: not known). What makes no sense is left out,
    as RFC 2347 wants it."""
    asked = {
        name: int(value) for name, value in options.items() if value.isascii() and value.isdigit() and value[9:] == ""
    }
    taken: dict[str, int] = {}
    if (block := asked.get("blksize", 0)) >= 8:
        taken["blksize"] = min(block, MAX_BLOCK_SIZE)
    if 1 <= asked.get("timeout", 0) <= 255:
        taken["timeout"] = asked["timeout"]
    if "tsize" in asked and size is not None:
        taken["tsize"] = size
    if (window := asked.get("windowsize", 0)) >= 1:
        taken["windowsize"] = min(window, MAX_WINDOW)
    answer = {name: str(taken[name]) for name in options if name in taken}
    return Settings(taken.get("blksize", BLOCK_SIZE), taken.get("windowsize", 1), taken.get("timeout"), answer)


def netascii(data: bytes) -> bytes:
    """Text of this host as it travels: lines end in CR LF, and a CR by itself has a zero byte behind it."""
    return data.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
