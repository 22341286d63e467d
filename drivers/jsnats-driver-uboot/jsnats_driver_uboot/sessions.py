"""Who has the console, and for how long: a session for each call, one at a time, that leaves a prompt behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final

from anyio import move_on_after

from jsnats.driver import Driver

from .common import UbootCommandError
from .link import Link, Tell
from .shell import BURST, Shell

LEAVE_S: Final = 2.0
"""How long a call that was cut short waits for the prompt that its Ctrl-C brings."""
RETRY_S: Final = 0.1
"""Time between two attempts to attach to a console that comes with the power."""
_ADVICE: Final = "are prompt and autoboot_key right, and bootdelay not below 0?"


class Sessions:
    """The calls that talk to the U-Boot on `serial`. `turn` is the lock of whoever does."""

    def __init__(self, serial: Driver, prompt: str, tell: Tell) -> None:
        self.turn = asyncio.Lock()
        self._serial = serial
        self._prompt = prompt
        self._tell = tell
        self._burst = BURST

    @asynccontextmanager
    async def shell(self, timeout: float, failure: str) -> AsyncGenerator[Shell, None]:
        """The shell for one call. What is cut short in it is ended with Ctrl-C.

        Raises TimeoutError, which says what `failure` that is and the last the console said.
        """
        async with self.turn, self._attached() as link:
            shell = Shell(link, self._prompt, self._burst)
            try:
                async with asyncio.timeout(timeout):
                    yield shell
                self._burst = shell.burst  # what this console has lost once, it loses again
            except TimeoutError as error:
                if not shell.woken:
                    raise TimeoutError(f"no {self._prompt!r} to type at: reboot() gets there; {link.last}") from error
                told = link.last
                await _leave(shell)
                raise TimeoutError(f"{failure} after {timeout:g} s; {told}") from error
            except (UbootCommandError, ConnectionError):  # it is at the prompt, or boots, or is gone
                raise
            except (asyncio.CancelledError, OSError, ValueError):
                await _leave(shell)
                raise

    async def check_free(self) -> None:
        """Raise DriverError when somebody types at the console."""
        with suppress(ConnectionError, TimeoutError):  # it may come with the power
            async with self._attached():
                pass

    async def stop_autoboot(self, key: bytes, timeout: float) -> str:
        """Press the key until U-Boot answers, attaching again when the console goes; return what was said."""
        told = ""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        async with self._attached() as link:
                            try:
                                return await Shell(link, self._prompt).stop_autoboot(key)
                            finally:
                                told = link.last
                    except (ConnectionError, TimeoutError) as error:
                        told = str(error)
                    await asyncio.sleep(RETRY_S)
        except TimeoutError as error:
            raise TimeoutError(f"no {self._prompt!r} {timeout:g} s after power-on; {told}; {_ADVICE}") from error

    def _attached(self) -> AbstractAsyncContextManager[Link]:
        return Link.attach(self._serial, self._tell)


async def _leave(shell: Shell) -> None:
    with move_on_after(LEAVE_S, shield=True), suppress(OSError):
        await shell.wake()
