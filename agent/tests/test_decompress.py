"""Compressed files, known by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import anyio
import pytest
from backports import zstd

from jsnats.driver import Driver, ResourceStream, plain
from jsnats.driver._decompress import PIECE, Decompressor, compression_of

DATA = random.Random(1).randbytes(700_000) + bytes(3 << 20)
PACKED = {"gzip": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zstd": zstd.compress}
kinds = pytest.mark.parametrize(("kind", "pack"), PACKED.items())
Pack = Callable[[bytes], bytes]


def unpacked(kind: str, data: bytes, step: int) -> bytes:
    """What `data`, fed `step` bytes at a time, holds."""
    decompressor = Decompressor(kind)
    found = [piece for at in range(0, len(data), step) for piece in decompressor.feed(data[at : at + step])]
    decompressor.finish()
    return b"".join(found)


class Bare(Driver):
    """A driver in a unit test, without an agent."""

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DynamicClient"


@kinds
@pytest.mark.parametrize("step", [1000, 1 << 20, 1 << 30])
def test_each_kind_is_known_and_decompressed(kind: str, pack: Pack, step: int) -> None:
    """By its first ten bytes; in whatever parts it comes."""
    packed = pack(DATA)
    assert compression_of(packed[:10]) == kind
    assert unpacked(kind, packed, step) == DATA


@kinds
def test_streams_one_after_the_other_are_joined(kind: str, pack: Pack) -> None:
    """As `cat a.gz b.gz` makes them, with zeros behind that fill up a block."""
    assert unpacked(kind, pack(b"one") + pack(b"two") + bytes(512), 7) == b"onetwo"


@kinds
def test_a_bomb_comes_in_pieces(kind: str, pack: Pack) -> None:
    """A few bytes that hold 16 MiB are given out a MiB at a time."""
    pieces = [len(piece) for piece in Decompressor(kind).feed(pack(bytes(16 << 20)))]
    assert (sum(pieces), max(pieces)) == (16 << 20, PIECE)


@kinds
def test_half_a_file_is_no_file(kind: str, pack: Pack) -> None:
    """An end in the middle is an error that says so."""
    with pytest.raises(ValueError, match=f"{kind} data ends in the middle"):
        unpacked(kind, pack(DATA)[:-20], 1 << 20)


@kinds
def test_damage_is_an_error_in_one_line(kind: str, pack: Pack) -> None:
    """Whatever class the library raises, the driver sees ValueError."""
    packed = bytearray(pack(DATA))
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) - len(packed) // 2)
    with pytest.raises(ValueError, match=kind) as caught:
        unpacked(kind, bytes(packed), 1 << 20)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", [b"", b"BZh is text", b"BZ", b"\x1f\x8b", b"\xfd7zX", b"\x7fELF"])
def test_what_only_looks_alike_is_left_alone(head: bytes) -> None:
    """No format is guessed from less than its whole magic."""
    assert compression_of(head) == ""


async def test_the_stream_says_what_it_holds() -> None:
    """A plain file has a size; a compressed one has none before its end, and a name without its suffix."""

    async def one(data: bytes) -> AsyncGenerator[bytes, None]:
        for at in range(0, len(data), 3):
            yield data[at : at + 3]

    stream = await plain(ResourceStream(one(b"plain bytes"), name="a.img", size=11))
    assert (stream.name, stream.size, b"".join([data async for data in stream])) == ("a.img", 11, b"plain bytes")
    packed = gzip.compress(b"packed bytes")
    stream = await plain(ResourceStream(one(packed), name="a.img.gz", size=len(packed)))
    assert (stream.name, stream.size, b"".join([data async for data in stream])) == ("a.img", None, b"packed bytes")


async def test_without_an_agent_a_handle_is_a_path(tmp_path: Path) -> None:
    """A unit test of a driver passes the path of a file, packed or not, to `resource` and to `resource_file`."""
    (tmp_path / "a.img.gz").write_bytes(gzip.compress(DATA))
    (tmp_path / "b.img").write_bytes(DATA)
    for name in ("a.img.gz", "b.img"):
        async with Bare().resource(str(tmp_path / name)) as stream:
            assert b"".join([data async for data in stream]) == DATA
        with Bare().resource_file(str(tmp_path / name)) as path:
            assert path.read_bytes() == DATA
            assert path.suffix == ".img"
    assert (tmp_path / "b.img").exists()


async def test_without_an_agent_a_new_file_is_a_temporary_one() -> None:
    """Its handle is its path."""
    async with Bare().new_resource("dump.img") as sink:
        await sink.send(b"dumped")
    async with Bare().resource(sink.handle) as stream:
        assert await stream.receive() == b"dumped"
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
    os.unlink(sink.handle)
