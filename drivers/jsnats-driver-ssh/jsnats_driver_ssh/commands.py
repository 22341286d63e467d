"""The command of `j`: words that are no command of ours are those of ssh."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .session import Session, opened

if TYPE_CHECKING:
    from .client import SSHWrapperClient


class _Program(click.Command):
    """All that follows is the program's own: `--`, `-v`, `--help` of the program by its man page."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args == ["--help"]:
            return super().parse_args(ctx, args)
        ctx.params["words"] = tuple(args)
        return []


class _Ssh(click.Group):
    """A group whose command is `run` unless a word says another."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        completing = ctx.resilient_parsing and not args  # the shell asks what there is
        if not completing and args != ["--help"] and args[:1] not in [[name] for name in self.commands]:
            args = ["run", *args]
        return super().parse_args(ctx, args)


def ssh_command(client: SSHWrapperClient) -> click.Group:
    """Make it."""

    @click.group(
        cls=_Ssh, invoke_without_command=True, options_metavar="[OPTIONS OF SSH]...", subcommand_metavar="[COMMAND]..."
    )
    def base() -> None:
        """Log in to the device, or run a command on it: `j ssh`, `j ssh uname -a`, `j ssh -L 8080:localhost:80`.

        It is this machine's own ssh, with its options and its exit code. The key is at the exporter.
        """

    @base.command(cls=_Program, options_metavar="[OPTIONS OF SSH]... [COMMAND]...")
    def run(words: tuple[str, ...]) -> int:
        """Run a command on the device; without one, log in. `run` may be left out: it says that `scp` is a command."""
        return _run(client, Session.ssh, words)

    @base.command(cls=_Program, options_metavar="[OPTIONS OF SCP]... SOURCE... TARGET")
    def scp(words: tuple[str, ...]) -> int:
        """Copy files: `j ssh scp image.bin :/tmp/`. A path on the device begins with a colon."""
        return _run(client, Session.scp, words)

    @base.command(cls=_Program, options_metavar="[OPTIONS OF RSYNC]... SOURCE... TARGET")
    def rsync(words: tuple[str, ...]) -> int:
        """Copy what has changed: `j ssh rsync -a build/ :/srv/`. A path on the device begins with a colon."""
        return _run(client, Session.rsync, words)

    return base


def _run(client: SSHWrapperClient, command: Callable[..., list[str]], words: tuple[Any, ...]) -> int:
    """Run it in the user's terminal, whose size, modes and Ctrl-C it has by that; return its exit code."""
    with opened(client) as session:
        code = subprocess.run(command(session, *words), env=session.environment, check=False).returncode
    return code if code >= 0 else 128 - code
