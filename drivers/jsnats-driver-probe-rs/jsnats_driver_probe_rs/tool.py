"""probe-rs as a process: one for each command, killed with its caller, its lease and its agent."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass

from jsnats.sdk import leashed
from jsnats_driver_shell.process import Process, running

from .output import Progress, Told, failure

_NO_QUESTIONS = {"PROBE_RS_NON_INTERACTIVE": "true", "TERM": "xterm"}
"""Several probes are an error, not a menu. TERM: without one, or with a dumb one, there are no progress bars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """The program, and the options that every command has. A command without an end of its own has `timeout_s`."""

    program: str
    options: tuple[str, ...]
    timeout_s: float

    def started(self, command: str, *args: str, timeout_s: float | None = None) -> AbstractAsyncContextManager[Process]:
        """Start a command; the end of the block kills it. Raises FileNotFoundError."""
        program = shutil.which(self.program)
        if program is None:
            raise FileNotFoundError(f"there is no program {self.program}: install probe-rs, or correct probe_rs_path")
        argv = leashed([program, command, *self.options, *args])
        # A terminal for stderr: probe-rs tells its progress, and what it says beside that, to nothing else.
        environment = os.environ | _NO_QUESTIONS
        return running(argv, env=environment, cwd=None, timeout_s=timeout_s, terminal=True)

    async def run(self, command: str, *args: str, progress: Progress | None = None) -> str:
        """Run a command to its end, and return what it prints.

        Raises ConnectionError where probe or target cannot be reached, OSError for any other exit code than 0, with
        the reason that probe-rs gives; TimeoutError after `timeout_s`, FileNotFoundError.
        """
        async with aclosing(self.output(command, *args, progress=progress, timeout_s=self.timeout_s)) as pieces:
            return "".join([piece async for piece in pieces])

    async def output(
        self, command: str, *args: str, progress: Progress | None = None, timeout_s: float | None = None
    ) -> AsyncGenerator[str, None]:
        """Run a command, and yield what it prints as it comes. Raises as `run`."""
        told, code = Told(progress), 0
        async with (
            self.started(command, *args, timeout_s=timeout_s) as process,
            aclosing(process.pieces()) as pieces,
        ):
            async for piece in pieces:
                told.add(piece.stderr)
                if piece.stdout:
                    yield piece.stdout
                code = piece.returncode or 0
        if process.timed_out:
            raise TimeoutError(f"probe-rs {command} did not end within {timeout_s:g} s and was killed")
        if code:
            raise failure(command, code, told.reason())
