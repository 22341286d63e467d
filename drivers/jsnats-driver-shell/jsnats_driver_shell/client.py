"""The user's side of shell: never imports the driver."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from functools import cached_property
from typing import Any

import click

from jsnats.client import DriverClient

from .common import ShellMethod, ShellPiece, ShellResult


class ShellClient(DriverClient):
    """Client of declared commands: each is a method, `client.uptime()`.

    `client.NAME(*args, **env)` is `client.call_method("NAME", *args, env=env)`; the latter also reaches a command whose
    name has a `-` or is an attribute of every client. The methods raise ValueError for what may not be passed,
    TimeoutError for a command that took too long, OSError if it could not be started. A return code other than 0 is a
    result, no error.
    """

    def get_methods(self) -> list[ShellMethod]:
        """Return the declared commands."""
        return [ShellMethod.model_validate(each) for each in self.call("get_methods")]

    def pieces(
        self, method: str, *args: str, env: Mapping[str, str] | None = None
    ) -> Generator[ShellPiece, None, None]:
        """Run a command and yield its output as it comes; the last piece has the return code.

        Leaving the loop kills the command.
        """
        with closing(self.streamingcall("call_method", method, dict(env or {}), *args)) as pieces:
            for piece in pieces:
                yield ShellPiece.model_validate(piece)

    def call_method(self, method: str, *args: str, env: Mapping[str, str] | None = None) -> ShellResult:
        """Run a command to its end and return what it said: stdout, stderr, returncode."""
        *pieces, last = self.pieces(method, *args, env=env)
        assert last.returncode is not None
        return ShellResult(
            "".join(piece.stdout for piece in pieces), "".join(piece.stderr for piece in pieces), last.returncode
        )

    def cli(self) -> click.Group:
        """Return the commands of `j`: one for each declared command."""

        @click.group
        def base() -> None:
            """Run commands of the exporter's host."""

        for method in self.get_methods():
            base.add_command(self._command(method))
        return base

    def _command(self, method: ShellMethod) -> click.Command:
        # What follows the first argument is the command's own, options too: `j host usb -- -t` or `j host ls /tmp -l`.
        @click.command(method.name, help=method.description, context_settings={"allow_interspersed_args": False})
        @click.option("-e", "--env", "pairs", multiple=True, metavar="KEY=VAL", help="Set an environment variable.")
        @click.argument("args", nargs=-1)
        @click.pass_context
        def command(context: click.Context, pairs: tuple[str, ...], args: tuple[str, ...]) -> None:
            context.exit(self._show(method.name, args, _environment(pairs)))

        return command

    def _show(self, method: str, args: tuple[str, ...], env: dict[str, str]) -> int:
        code = 0
        for piece in self.pieces(method, *args, env=env):
            if piece.stdout:
                click.echo(piece.stdout, nl=False)
            if piece.stderr:
                click.echo(piece.stderr, nl=False, err=True)
            code = piece.returncode or 0
        return code

    @cached_property
    def _declared(self) -> frozenset[str]:
        return frozenset(method.name for method in self.get_methods())

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name not in self.__dict__.get("children", {}) and name in self._declared:
            return lambda *args, **env: self.call_method(name, *args, env=env)
        return super().__getattr__(name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._declared]


def _environment(pairs: tuple[str, ...]) -> dict[str, str]:
    env: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{pair!r} is not KEY=VAL", param_hint="-e")
        env[name] = value
    return env
