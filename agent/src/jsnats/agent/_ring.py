"""What a console has said and the broker has not stored yet: bounded, in memory at first, on disk beyond that.

Blocks leave in the order they came. When there is no room the oldest bytes go, and a gap stands in their place that
says how many: markers are kept, a power-on must be found again.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections import deque
from dataclasses import dataclass
from typing import IO, Final

log = logging.getLogger("jsnats.agent")

RING_BYTES = 64 << 20
MEMORY_BYTES = 4 << 20
"""What is kept in memory before blocks go to disk."""
BLOCK_BYTES: Final = 64 * 1024
BLOCK_MS: Final = 1000
"""A block holds no more than this, so that its time is right for all its bytes."""
SEGMENT_BYTES: Final = 4 << 20
KEPT_MARKERS: Final = 256
_OVERHEAD = 512
"""What a block costs beside its bytes."""


@dataclass(slots=True)
class Segment:
    """One temporary file; it goes when its last block has been read."""

    file: IO[bytes]
    size: int = 0
    blocks: int = 0


@dataclass(slots=True)
class Block:
    """Bytes, or a marker (then `data` is its body). `offset` is the position of the first byte, or of the next one."""

    offset: int
    time_ms: int
    data: bytearray
    mark: str = ""
    size: int = 0
    place: tuple[Segment, int] | None = None


@dataclass(slots=True)
class Gap:
    """Bytes that are gone, all before `offset`."""

    offset: int
    bytes: int
    since_ms: int
    until_ms: int

    def marker(self) -> Block:
        """The marker that stands in their place."""
        seconds = max(0, self.until_ms - self.since_ms) / 1000
        text = f"{self.bytes} bytes of {seconds:g} s not recorded: the broker took nothing for too long"
        body = json.dumps({"text": text, "seconds": seconds, "bytes": self.bytes}).encode()
        return Block(self.offset, self.until_ms, bytearray(body), "gap", len(body))


class Spool:
    """Blocks on disk, in a row of temporary files, so that what has been read is given back."""

    def __init__(self) -> None:
        self._segment: Segment | None = None

    def write(self, block: Block) -> None:
        """Move the bytes of a block to disk. Raises OSError, and then they stay where they are."""
        segment = self._segment
        if segment is None or segment.size >= SEGMENT_BYTES:
            file = tempfile.TemporaryFile(prefix="jsnats-console-", buffering=0)  # noqa: SIM115 - until it is read
            self._retire()
            segment = self._segment = Segment(file)
        segment.file.seek(segment.size)
        if segment.file.write(block.data) != block.size:
            raise OSError("disk full")
        block.place = (segment, segment.size)
        segment.size += block.size
        segment.blocks += 1
        block.data = bytearray()

    def read(self, block: Block) -> None:
        """Bring the bytes of a block back. Raises OSError."""
        if block.place:
            segment, position = block.place
            segment.file.seek(position)
            block.data = bytearray(segment.file.read(block.size))
            self.forget(block)
            if len(block.data) != block.size:
                raise OSError("the temporary file is shorter than it was written")

    def forget(self, block: Block) -> None:
        """The bytes of a block are not needed on disk any more."""
        if block.place:
            segment = block.place[0]
            block.place = None
            segment.blocks -= 1
            if not segment.blocks and segment is not self._segment:
                segment.file.close()

    def _retire(self) -> None:
        if self._segment and not self._segment.blocks:
            self._segment.file.close()

    def close(self) -> None:
        """Give everything back. The blocks are forgotten one by one before."""
        self._retire()
        self._segment = None


class Ring:
    """The blocks of one console. `size` is what they take, `memory` what of that is not on disk, `markers` how many of
    them are markers."""

    def __init__(self) -> None:
        self._blocks: deque[Block] = deque()
        self._saved: deque[Block] = deque(maxlen=KEPT_MARKERS)
        self._gap: Gap | None = None
        self._spool = Spool()
        self.size = self.memory = self.markers = 0
        self._disk_full = False

    def __bool__(self) -> bool:
        return bool(self._blocks or self._gap or self._saved)

    def add(self, offset: int, time_ms: int, data: bytes) -> None:
        """Take bytes that begin at `offset`."""
        for start in range(0, len(data), BLOCK_BYTES):
            piece = data[start : start + BLOCK_BYTES]
            last = self._blocks[-1] if self._blocks else None
            if last and _takes(last, offset + start, time_ms, len(piece)):
                last.data += piece
                last.size += len(piece)
                self._count(last, len(piece))
            else:
                self._append(Block(offset + start, time_ms, bytearray(piece), "", len(piece)))

    def add_mark(self, offset: int, time_ms: int, mark: str, body: bytes) -> None:
        """Take a marker that stands before the byte at `offset`."""
        self.markers += 1
        self._append(Block(offset, time_ms, bytearray(body), mark, len(body)))

    def take(self) -> Block:
        """Remove the oldest block, with its bytes."""
        if self._saved:
            return self._saved.popleft()
        if self._gap:
            gap, self._gap = self._gap, None
            return gap.marker()
        block = self._pop()
        if block.mark:
            self.markers -= 1
        try:
            self._spool.read(block)
        except OSError as error:
            log.error("console output was spooled to disk and cannot be read back: %s", error)
            self._lose(block)
            return self.take()
        return block

    def shift(self, distance: int) -> None:
        """Everything stands further on than was thought."""
        for block in (*self._blocks, *self._saved):
            block.offset += distance
        if self._gap:
            self._gap.offset += distance

    def close(self) -> None:
        """Forget everything."""
        while self._blocks:
            self._spool.forget(self._pop())
        self._spool.close()

    def _append(self, block: Block) -> None:
        if self._blocks and self.memory > MEMORY_BYTES:
            self._to_disk(self._blocks[-1])
        self._blocks.append(block)
        self._count(block, block.size + _OVERHEAD)

    def _count(self, block: Block, size: int) -> None:
        self.size += size
        self.memory += size
        while len(self._blocks) > 1 and self._is_full():
            self._drop()

    def _is_full(self) -> bool:
        # Without a disk twice the memory must do.
        return self.size > RING_BYTES or (self._disk_full and self.memory > 2 * MEMORY_BYTES)

    def _to_disk(self, block: Block) -> None:
        if block.mark:
            return
        try:
            self._spool.write(block)
        except OSError as error:
            if not self._disk_full:
                log.error("console output cannot be spooled to %s: %s", tempfile.gettempdir(), error)
            self._disk_full = True
        else:
            self._disk_full = False
            self.memory -= block.size

    def _pop(self) -> Block:
        block = self._blocks.popleft()
        self.size -= block.size + _OVERHEAD
        self.memory -= _OVERHEAD if block.place else block.size + _OVERHEAD
        return block

    def _drop(self) -> None:
        block = self._pop()
        if block.mark:
            self.markers -= 1
            self._saved.append(block)
        else:
            self._spool.forget(block)
            self._lose(block)

    def _lose(self, block: Block) -> None:
        """Widen the gap at the front by a block."""
        if self._gap is None:
            self._gap = Gap(block.offset, 0, block.time_ms, block.time_ms)
        self._gap.bytes += block.size
        self._gap.offset = block.offset + block.size
        self._gap.until_ms = self._blocks[0].time_ms if self._blocks else block.time_ms


def _takes(block: Block, offset: int, time_ms: int, size: int) -> bool:
    """Say whether bytes at `offset` can be put behind those of `block`."""
    whole = not block.mark and block.place is None and block.offset + block.size == offset
    return whole and block.size + size <= BLOCK_BYTES and time_ms - block.time_ms < BLOCK_MS
