"""The user's side of a console: the terminal in raw mode, the keys, and what comes by a pipe."""

from __future__ import annotations

import asyncio
import os
import signal
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

ESCAPE = b"\x1d"
"""Ctrl-]; the key behind it is a command."""
HELP = """\
Ctrl-] q       quit
Ctrl-] o       off the record, and on again
Ctrl-] Ctrl-]  send Ctrl-]
Ctrl-] ?       this help"""
_HANGUPS = (signal.SIGTERM, signal.SIGHUP)
_RESET = b"\x1b[m\x1b[?25h"
"""The device's colours and a cursor that it has hidden do not stay."""


@contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """Every key goes through as it is, Ctrl-C too; whatever ends the block, the terminal is as it was before.

    SIGTERM and SIGHUP end it by SystemExit, with the exit code 128 + N.
    """
    saved = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, _leave) for number in _HANGUPS}
    try:
        tty.setraw(descriptor, termios.TCSANOW)
        yield
    finally:
        for number in _HANGUPS:
            signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt this
        with suppress(termios.error, OSError):  # it was hung up
            termios.tcsetattr(descriptor, termios.TCSANOW, saved)
            os.write(descriptor, _RESET)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


class Keys:
    """Takes the escape key out of what is typed."""

    def __init__(self) -> None:
        self._escaped = False

    def take(self, typed: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield ("send", bytes) for the device and (command, b"") for us: quit, record, help, unknown."""
        while typed:
            if self._escaped:
                self._escaped = False
                key, typed = typed[:1], typed[1:]
                yield _COMMANDS.get(key.lower(), ("unknown", b""))
                continue
            plain, found, typed = typed.partition(ESCAPE)
            self._escaped = bool(found)
            if plain:
                yield "send", plain


_COMMANDS = {
    b"q": ("quit", b""),
    b".": ("quit", b""),
    b"o": ("record", b""),
    b"?": ("help", b""),
    b"h": ("help", b""),
    ESCAPE: ("send", ESCAPE),
}


class Input:
    """Reads a file descriptor in a thread, which waits while nobody takes what it has read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(64)
        # A daemon: nothing can wake it from its read when the command ends.
        threading.Thread(target=self._serve, name="jsnats-input", daemon=True).start()

    async def take(self) -> bytes:
        """The next bytes; empty at the end."""
        return await self._chunks.get()

    def _serve(self) -> None:
        while True:
            try:
                chunk = os.read(self._descriptor, 4096)
            except OSError:
                chunk = b""  # the terminal has gone
            work = self._chunks.put(chunk)
            try:
                asyncio.run_coroutine_threadsafe(work, self._loop).result()
            except RuntimeError:
                work.close()  # the loop is closed
                return
            if not chunk:
                return
