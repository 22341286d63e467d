"""The exporter's side of shell: commands that the configuration declares, run on the exporter's host."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, export

from .common import ShellMethod, ShellPiece
from .environment import environment
from .process import running

Timeout = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_-]{0,62}\z")]


class Command(BaseModel):
    """One declared command: a text for the shell, its help, and its own timeout in s."""

    model_config = ConfigDict(extra="forbid")

    command: str = Field(min_length=1)
    description: str = ""
    timeout: Timeout | None = None


@dataclass(kw_only=True)
class Shell(Driver):
    """Runs declared commands: `methods` by name, each the command's text or a `Command`.

    `shell` is the program and options before the text, `timeout` in s holds for commands without their own, `cwd` is
    the directory they start in (the agent's by default).
    """

    methods: dict[Name, Annotated[str, Field(min_length=1)] | Command]
    shell: Annotated[list[str], Field(min_length=1)] = field(default_factory=lambda: ["bash", "-c"])
    timeout: Timeout = 300.0
    cwd: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._commands = {
            name: Command(command=each) if isinstance(each, str) else each for name, each in self.methods.items()
        }

    @classmethod
    def client(cls) -> str:
        """Return the client with a method for each command."""
        return "jsnats_driver_shell.client.ShellClient"

    @export
    async def get_methods(self) -> list[ShellMethod]:
        """Return the declared commands in the order of the configuration."""
        return [
            ShellMethod(name=name, description=each.description, timeout=self._limit(each))
            for name, each in self._commands.items()
        ]

    @export
    async def call_method(self, method: str, env: dict[str, str], *args: str) -> AsyncGenerator[ShellPiece, None]:
        """Run a declared command and yield its output as it comes, then its return code.

        `args` are `$1`, `$2` and so on of the command and never part of its text, `env` is added to its environment. A
        caller that stops, and a command that takes too long, end all its processes. Raises ValueError for an unknown
        command or a variable that may not be set, TimeoutError, and OSError if the shell cannot be started.
        """
        command = self._find(method)
        argv = [*self.shell, command.command, method, *_checked(args)]
        limit = self._limit(command)
        self.logger.info("runs %s with %d arguments", method, len(args))
        async with (
            running(argv, env=environment(os.environ, env), cwd=self.cwd, timeout_s=limit) as process,
            aclosing(process.pieces()) as pieces,
        ):
            async for piece in pieces:
                yield piece
        if process.timed_out:
            raise TimeoutError(f"{method!r} did not end within {limit:g} s and was killed with all it had started")

    def _find(self, method: str) -> Command:
        command = self._commands.get(method)
        if command is None:
            raise ValueError(f"no command {method!r} is declared: there is {', '.join(self._commands) or 'none'}")
        return command

    def _limit(self, command: Command) -> float:
        return command.timeout or self.timeout


def _checked(args: tuple[str, ...]) -> tuple[str, ...]:
    for position, each in enumerate(args, 1):
        if "\0" in each:
            raise ValueError(f"argument {position} has a NUL character in it")
    return args
