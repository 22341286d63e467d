"""One command as a process group of its own, and its output in whole lines.

The pipes are ours, not those of `asyncio.subprocess`: on a timeout they are closed from this side, so that a process
which left the group but still holds them cannot keep the call open.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from .common import ShellPiece

log = logging.getLogger("jsnats.driver.shell")

LONGEST = 64 << 10
"""Characters in one piece at most; a line that does not end is handed on when it is as long."""
AHEAD = 64
"""Pieces that may wait for the reader; beyond that the command waits in its next write."""


class Lines(asyncio.Protocol):
    """Cuts one pipe into pieces that end with a line where they can; calls `put` with each and `end` once."""

    def __init__(self, put: Callable[[str], None], end: Callable[[], None]) -> None:
        self._put, self._end = put, end
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def data_received(self, data: bytes) -> None:
        """Take bytes; what cannot be decoded becomes U+FFFD."""
        text = self._rest + self._decoder.decode(data)
        # A bare \r ends a line as well: progress bars have nothing else.
        cut = max(text.rfind("\n"), text.rfind("\r")) + 1
        if len(text) - cut >= LONGEST:
            cut = len(text)
        self._rest = text[cut:]
        for begin in range(0, cut, LONGEST):
            self._put(text[begin : min(begin + LONGEST, cut)])

    def connection_lost(self, exc: Exception | None) -> None:
        """The pipe is closed: hand on what has no end of line."""
        if rest := self._rest + self._decoder.decode(b"", final=True):
            self._put(rest)
        self._end()


class Process:
    """A running command. Made by `running()`."""

    def __init__(self) -> None:
        self.timed_out = False
        self._process: asyncio.subprocess.Process | None = None
        self._pipes: list[asyncio.ReadTransport] = []
        self._queue: asyncio.Queue[ShellPiece | None] = asyncio.Queue()
        self._ended = False

    async def start(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str | None, *, terminal: bool = False
    ) -> None:
        """Start it. Raises OSError if that is not possible."""
        out = await self._pipe(lambda text: self._put(ShellPiece(stdout=text)), os.pipe)
        try:
            err = await self._pipe(lambda text: self._put(ShellPiece(stderr=text)), os.openpty if terminal else os.pipe)
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *argv, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd=cwd,
                    start_new_session=True,
                )  # fmt: skip
            finally:
                os.close(err)
        finally:
            os.close(out)

    async def _pipe(self, put: Callable[[str], None], make: Callable[[], tuple[int, int]]) -> int:
        """Read from a new pipe; return the end to write to, which is the caller's to close."""
        read, write = make()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: Lines(put, lambda: self._queue.put_nowait(None)), os.fdopen(read, "rb", buffering=0)
        )
        self._pipes.append(transport)
        return write

    def _put(self, piece: ShellPiece) -> None:
        self._queue.put_nowait(piece)
        if self._queue.qsize() >= AHEAD:
            for pipe in self._pipes:
                pipe.pause_reading()

    async def pieces(self) -> AsyncGenerator[ShellPiece, None]:
        """Yield the output until both streams end, then the return code; nothing more if it timed out."""
        for _ in range(len(self._pipes)):
            while (piece := await self._queue.get()) is not None:
                if self._queue.empty():
                    self._resume()
                yield piece
        if not self.timed_out and self._process:
            code = await self._process.wait()
            self._ended = True
            yield ShellPiece(returncode=code if code >= 0 else 128 - code)

    def _resume(self) -> None:
        for pipe in self._pipes:
            if not pipe.is_closing() and not pipe.is_reading():
                pipe.resume_reading()

    def expire(self) -> None:
        """The time is up: kill it. `pieces()` ends after what was read until now."""
        self.timed_out = True
        self.kill()

    def kill(self) -> bool:
        """Kill the whole group and stop reading. Return False if the group may not be killed."""
        for pipe in self._pipes:
            pipe.close()
        if self._process is None:
            return False
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all of it has ended
        except PermissionError:
            log.error("process group %s belongs to another user and could not be killed", self._process.pid)
            return False
        return True

    async def terminate(self, grace_s: float) -> None:
        """Ask it to end (SIGTERM), and return when it has, at the latest after `grace_s`."""
        if self._process:
            with suppress(ProcessLookupError):
                self._process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._process.wait()

    async def stop(self) -> None:
        """Kill what has not ended by itself, and wait until it is gone."""
        if not self._ended and self.kill() and self._process:
            await self._process.wait()


@asynccontextmanager
async def running(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None,
    timeout_s: float | None,
    terminal: bool = False,
) -> AsyncIterator[Process]:
    """Run `argv` in a session of its own without stdin; leaving the block kills all of it that still runs.

    After `timeout_s` it is killed, and `timed_out` is set. With `terminal` its stderr is one, for programs that tell
    their progress to nothing else. Raises OSError if it cannot be started.
    """
    process = Process()
    timer: asyncio.TimerHandle | None = None
    try:
        await process.start(argv, env, cwd, terminal=terminal)
        if timeout_s is not None:
            timer = asyncio.get_running_loop().call_later(timeout_s, process.expire)
        yield process
    finally:
        if timer:
            timer.cancel()
        await process.stop()
