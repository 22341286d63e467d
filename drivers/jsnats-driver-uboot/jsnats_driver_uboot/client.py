"""The user's side of U-Boot: never imports the driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import click

from jsnats.client import CompositeClient
from jsnats.common.exceptions import DriverOSError

from .common import CommandResult, DhcpInfo, UbootCommandError


class UbootConsoleClient(CompositeClient):
    """Client of a board's U-Boot; `power` and `serial` are its switch and its console.

    The work is done beside the board: each method attaches to the console, comes to the prompt by Ctrl-C, types, reads
    back what it typed, and lets go. All but `reboot` want U-Boot to be at its prompt, and raise TimeoutError, with the
    last it said, if it is not there in `timeout` seconds. ConnectionError: the console is gone or the board was reset.
    """

    @property
    def prompt(self) -> str:
        """What U-Boot shows when it waits for a command."""
        return str(self.call("get_prompt"))

    def reboot(self, timeout: float = 60) -> str:
        """Switch off and on, stop the autoboot within `timeout` s of power-on, and return what was said until then."""
        return str(self.call("reboot", timeout))

    @contextmanager
    def reboot_to_console(self, timeout: float = 60) -> Iterator[Self]:
        """As `reboot`, as a `with` block around what is done at the prompt. The board stays there at its end."""
        self.reboot(timeout)
        yield self

    def run(self, command: str, timeout: float = 60) -> CommandResult:
        """Run a command; return its output and its `$?`."""
        return CommandResult.model_validate(self.call("run", command, timeout))

    def run_command(self, cmd: str, timeout: float = 60) -> bytes:
        """Run a command; return its output, whatever its status."""
        return self.run(cmd, timeout).output.encode()

    def run_command_checked(self, cmd: str, timeout: float = 60) -> list[str]:
        """Run a command; return the lines of its output. Raises UbootCommandError for a status other than 0."""
        result = CommandResult.model_validate(self.call("run", cmd, timeout, True))
        return result.output.splitlines()

    def boot(self, command: str = "boot", timeout: float = 10) -> None:
        """Give a command that does not come back: boot, bootm, go, reset."""
        self.call("boot", command, timeout)

    def setup_dhcp(self, timeout: float = 60) -> DhcpInfo:
        """Get an address for U-Boot, and no file: `autoload` is `no` then. Raises UbootCommandError for no answer."""
        return DhcpInfo.model_validate(self.call("setup_dhcp", timeout))

    def get_env(self, key: str, timeout: float = 10) -> str | None:
        """Return the value of a variable, None if it has none."""
        value: str | None = self.call("get_env", key, timeout)
        return value

    def print_env(self, timeout: float = 30) -> dict[str, str]:
        """Return all variables."""
        found: dict[str, str] = self.call("print_env", timeout)
        return found

    def set_env(self, key: str, value: str | None, timeout: float = 10) -> None:
        """Set a variable, or remove it with None; `saveenv` is another command.

        Raises ValueError for what cannot be typed: control characters, line ends among them, and what is longer than
        a line of U-Boot; UbootCommandError for what U-Boot refuses.
        """
        self.set_env_dict({key: value}, timeout)

    def set_env_dict(self, env: Mapping[str, str | None], timeout: float = 30) -> None:
        """As `set_env`, one variable after the other; if one of them cannot be typed, none is set."""
        self.call("set_env", dict(env), timeout)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As that of every client; the failure of a command is UbootCommandError."""
        with _command_errors():
            return super().call(method, *args, **kwargs)

    async def call_async(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As `call`, for asyncio."""
        with _command_errors():
            return await super().call_async(method, *args, **kwargs)

    def cli(self) -> click.Group:
        """Return the commands of `j`."""
        from .commands import uboot_commands

        return uboot_commands(self)


@contextmanager
def _command_errors() -> Iterator[None]:
    try:
        yield
    except DriverOSError as error:
        if error.cause != UbootCommandError.__name__:
            raise
        raise UbootCommandError(
            error.message, path=error.path, method=error.method, detail=error.detail, cause=error.cause
        ) from error
