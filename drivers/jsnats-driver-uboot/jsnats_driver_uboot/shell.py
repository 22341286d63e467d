"""The dialogue with U-Boot over a console that may lose, add or delay characters.

What is typed is read back before Enter, so that nothing is run but what was meant. A command is followed by an `echo`
of a mark that nobody knows before, with its status: that is its end, whatever else looks like a prompt. At the prompt
Ctrl-C is typed, never Enter: an empty line repeats the last command.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Final

from anyio import fail_after, move_on_after

from .common import CommandResult, UbootCommandError, short
from .env import checked_name
from .link import Link, text_of

CTRL_C: Final = b"\x03"
ENTER: Final = b"\r"
BELL: Final = b"\a"
AGAIN_S: Final = 1.0
"""How long to wait for a prompt before Ctrl-C is typed again."""
WAKE_S: Final = 10.0
"""How long U-Boot may take to come to its prompt before a command."""
ECHO_S: Final = 2.0
"""How long a character may take to come back."""
KEY_S: Final = 0.1
"""Time between two keys that are to stop the autoboot: all that come while U-Boot starts are looked at together."""
QUIET_S: Final = 0.3
"""A prompt is answered to when nothing has come for so long: keys may have been pressed that it still answers."""
ANSWER_S: Final = 5.0
BURST: Final = 16
"""Characters that are typed before they are read back: the FIFO of the most common UART. One at a time where some of
them are lost."""
ATTEMPTS: Final = 3

_RESET = re.compile(rb"[\r\n](Hit any key to stop autoboot|Autoboot in \d+)")
_PROBED = rb"[ #\x08]*\Z"
"""What may stand behind a prompt that was asked whether it is one."""
_CONTINUED = re.compile(rb"[\r\n]> " + _PROBED)

Find = Callable[[int], re.Match[bytes] | None]


class Garbled(OSError):
    """What is typed does not come back."""


class Shell:
    """U-Boot on a link. `woken` says that it was at its prompt, `burst` how many characters are typed at once."""

    def __init__(self, link: Link, prompt: str, burst: int = BURST) -> None:
        self.link = link
        self.woken = False
        self.burst = burst
        self._prompt = re.escape(prompt.strip().encode())
        self._in_line = re.compile(rb"(?:\A|[\r\n])" + self._prompt)
        self._at_end = re.compile(rb"(?:\A|[\r\n])" + self._prompt + _PROBED)

    # ------------------------------------------------------------------ to the prompt

    async def stop_autoboot(self, key: bytes) -> str:
        """Press the key until U-Boot answers to a command; return what was said until the prompt."""
        while True:
            prompt = await self._press(key, KEY_S, self._shown)
            await self._settle()
            with move_on_after(ANSWER_S):
                try:
                    await self.run("")
                except (Garbled, TimeoutError, ValueError):
                    continue  # no prompt then, it only looked like one
                return text_of(self.link.said[: prompt.end()])

    async def wake(self) -> None:
        """End what runs, drop what was typed, and be at the prompt. Raises TimeoutError if there is none."""
        with fail_after(WAKE_S):
            await self._press(CTRL_C, AGAIN_S, self._prompted)
        self.woken = True

    async def _press(self, key: bytes, wait_s: float, found: Find) -> re.Match[bytes]:
        """Press it until that is found in what came since."""
        start = len(self.link.said)
        while True:
            await self.link.send(key)
            with move_on_after(wait_s):
                return await self.link.until(lambda: found(start))

    async def _settle(self) -> None:
        while True:
            with move_on_after(QUIET_S) as quiet:
                await self.link.more()
            if quiet.cancelled_caught:
                return

    def _shown(self, start: int) -> re.Match[bytes] | None:
        """The first prompt behind `start`; keys that were pressed may stand at it."""
        return self._in_line.search(self.link.said, start)

    def _prompted(self, start: int) -> re.Match[bytes] | None:
        """The prompt, if that is the last that was said behind `start`."""
        said = self.link.said
        return self._at_end.search(said, max(start, len(said) - len(self._prompt) - 64))

    # ------------------------------------------------------------------ commands

    async def run(self, command: str) -> CommandResult:
        """Run a command, or with "" only see that there is a shell.

        Raises Garbled, ValueError for a line that U-Boot does not take, ConnectionError for a board that has been reset
        or a console that is gone.
        """
        mark = secrets.token_hex(4)
        await self._type(f"{command}; echo {mark}:$?" if command else f"echo {mark}:$?")
        start = len(self.link.said)
        await self.link.send(ENTER)
        ended = re.compile(mark.encode() + rb":(-?\d+|\$\?)[\r\n]+" + self._prompt)
        found = await self._ended(command, ended, start)
        output = text_of(self.link.said[start : found.start()]).removeprefix("\n").removesuffix("\n")
        status = None if found[1] == b"$?" else int(found[1])
        return CommandResult(command=command, status=status, output=output)

    async def check(self, command: str) -> CommandResult:
        """As `run`; another status than 0 is UbootCommandError, none at all NotImplementedError."""
        result = await self.run(command)
        if result.status is None:
            raise NotImplementedError("this U-Boot has no $?, for want of the hush shell: a command cannot be checked")
        if result.status:
            raise UbootCommandError.of(result)
        return result

    async def value(self, name: str) -> str | None:
        """The value of a variable, None if it has none."""
        result = await self.run(f"printenv {checked_name(name)}")
        if result.output.startswith(f"{name}="):
            return result.output.removeprefix(f"{name}=")
        if "not defined" in result.output:
            return None
        raise UbootCommandError.of(result)

    async def start(self, command: str) -> None:
        """Run a command that does not come back. Raises as `run`."""
        await self._type(command)
        start = len(self.link.said)
        await self.link.send(ENTER)
        await self.link.until(lambda: self.link.said.find(b"\n", start) >= 0)

    async def _ended(self, command: str, ended: re.Pattern[bytes], start: int) -> re.Match[bytes]:
        while True:
            with move_on_after(AGAIN_S):
                return await self.link.until(lambda: self._end(command, ended, start))
            told = self.link.last
            if await self._wants_input(start):
                raise ValueError(f"U-Boot does not take {short(command)} as a whole line; {told}")

    def _end(self, command: str, ended: re.Pattern[bytes], start: int) -> re.Match[bytes] | None:
        said = self.link.said
        if _RESET.search(said, max(start, self.link.fresh - 100)):
            raise ConnectionResetError(f"the board was reset while it ran {short(command)}; {self.link.last}")
        return ended.search(said, max(start, len(said) - len(self._prompt) - 200))

    async def _wants_input(self, start: int) -> bool:
        """Whether it is at a prompt, after a line with a fault, or waits for the rest of one: it echoes then. A command
        whose output only looks like that drops what is typed."""
        if not (self._prompted(start) or _CONTINUED.search(self.link.said, start)):
            return False
        try:
            return await self._echoed(b"#", 1)
        finally:
            await self.link.send(b"\b")

    # ------------------------------------------------------------------ typing

    async def _type(self, line: str) -> None:
        """Have a line stand at the prompt, each character of it."""
        for _ in range(ATTEMPTS):
            await self.wake()
            if await self._echoed(line.encode(), self.burst):
                return
            self.burst = 1
        raise Garbled(f"the console does not give back what is typed, {short(line)}; {self.link.last}")

    async def _echoed(self, line: bytes, size: int) -> bool:
        start = len(self.link.said)
        for begin in range(0, len(line), size):
            typed = line[: begin + size]
            await self.link.send(typed[begin:])
            echo = await self._echo(start, len(typed))
            if echo != typed:
                self._check_length(line, echo)
                return False
        return True

    async def _echo(self, start: int, length: int) -> bytes:
        """What came back, after ECHO_S at the latest."""

        def echo() -> bytes:
            return bytes(self.link.said[start:]).lstrip(b" ")  # which belong to the prompt

        with move_on_after(ECHO_S):
            await self.link.until(lambda: len(echo()) >= length)
        return echo()

    @staticmethod
    def _check_length(line: bytes, echo: bytes) -> None:
        taken = echo.rstrip(BELL)
        if taken != echo and line.startswith(taken):
            raise ValueError(f"the line is too long: this U-Boot takes {len(taken)} characters, not {len(line)}")
