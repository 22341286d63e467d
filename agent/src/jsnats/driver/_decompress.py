"""Compressed data, known by its first bytes and decompressed as it comes, in pieces of bounded size."""

from __future__ import annotations

import asyncio
import bz2
import lzma
import re
import sys
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, Final

HEAD: Final = 10
"""So many bytes tell the format."""
PIECE: Final = 1 << 20
"""The most that is given out at once, so that a file of zeros, which compresses a thousandfold, fits into memory."""

_FORMATS: Final = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "bz2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),  # with the magic of a block: "BZh" alone could be text
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
}
SUFFIXES: Final = {"gzip": ".gz", "xz": ".xz", "bz2": ".bz2", "zstd": ".zst"}


def compression_of(head: bytes) -> str:
    """Name the format of data that begins with `head`, "" for none that is known."""
    return next((name for name, magic in _FORMATS.items() if magic.match(head)), "")


class _Gzip:
    """zlib's decompressor in the shape of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)

    eof = property(lambda self: self._inner.eof)
    unused_data = property(lambda self: self._inner.unused_data)
    needs_input = property(lambda self: not self._inner.unconsumed_tail)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _decompressor(kind: str) -> Any:
    if kind == "zstd":
        return _zstd().ZstdDecompressor()
    return {"gzip": _Gzip, "xz": lzma.LZMADecompressor, "bz2": bz2.BZ2Decompressor}[kind]()


def _faults(kind: str) -> tuple[type[Exception], ...]:
    own = (_zstd().ZstdError,) if kind == "zstd" else ()
    return (zlib.error, lzma.LZMAError, OSError, EOFError, *own)  # OSError is bz2's


class Decompressor:
    """Decompresses data that comes in parts. Several streams one after the other are joined, as the tools do it, and
    zeros behind them, which fill up to a block, are dropped."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._inner = _decompressor(kind)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` brings, in pieces. Raises ValueError for damaged data."""
        try:
            while data := self._next_stream(data):
                yield from self._decompress(data)
                data = self._inner.unused_data
        except _faults(self._kind) as error:
            raise ValueError(f"damaged {self._kind} data: {error}") from error

    def finish(self) -> None:
        """Nothing follows. Raises ValueError in the middle of a stream."""
        if self._begun and not self._inner.eof:
            raise ValueError(f"the {self._kind} data ends in the middle: is the file whole?")

    def _next_stream(self, data: bytes) -> bytes:
        if self._inner.eof and (data := data.lstrip(b"\0")):
            self._inner = _decompressor(self._kind)
        self._begun = self._begun or bool(data)
        return data

    def _decompress(self, data: bytes) -> Iterator[bytes]:
        piece = self._inner.decompress(data, PIECE)
        while piece:
            yield piece
            if self._inner.eof or (self._inner.needs_input and len(piece) < PIECE):
                return
            piece = self._inner.decompress(b"", PIECE)


async def decompress(kind: str, head: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield what `head` and `rest` hold.

    Raises ValueError for damaged data, after `rest` has been read to its end: that may raise what is worse, namely
    that these are not the bytes that were meant.
    """
    decompressor = Decompressor(kind)
    try:
        async for piece in _feed(decompressor, head):
            yield piece
        async for data in rest:
            async for piece in _feed(decompressor, data):
                yield piece
        decompressor.finish()
    except ValueError:
        async for _ in rest:
            pass
        raise


async def _feed(decompressor: Decompressor, data: bytes) -> AsyncIterator[bytes]:
    pieces = decompressor.feed(data)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
