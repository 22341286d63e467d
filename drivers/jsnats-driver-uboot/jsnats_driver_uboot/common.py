"""What travels between driver and client."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel

from jsnats.common.exceptions import DriverOSError


class CommandResult(BaseModel):
    """What a command said, its lines ended by "\\n" and the last one not ended, and its `$?`.

    `status` is None where U-Boot was built without its hush shell, which alone has a `$?`.
    """

    command: str
    status: int | None
    output: str


class DhcpInfo(BaseModel):
    """What a DHCP server gave; None is what it did not."""

    ip_address: str
    gateway: str | None = None
    netmask: str | None = None


class UbootCommandError(DriverOSError):
    """A command that ended with another status than 0; `result` is what it said."""

    @classmethod
    def of(cls, result: CommandResult) -> Self:
        """The error of that result."""
        said = result.output.strip().splitlines()
        text = f"{short(result.command)} ended with {result.status}" + (
            f": {said[-1]}" if said else ", and said nothing"
        )
        return cls(text, detail=result.model_dump(), cause=cls.__name__)

    @property
    def result(self) -> CommandResult:
        """Command, status and output."""
        return CommandResult.model_validate(self.detail)


def short(command: str) -> str:
    """A command as an error shows it."""
    return repr(command if len(command) <= 80 else f"{command[:77]}...")
