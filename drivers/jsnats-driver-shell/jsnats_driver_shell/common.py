"""What travels between the shell driver and its client."""

from typing import NamedTuple

from pydantic import BaseModel


class ShellMethod(BaseModel):
    """A declared command; its text stays on the exporter. `timeout` is in s."""

    name: str
    description: str
    timeout: float


class ShellPiece(BaseModel):
    """Some whole lines of one stream, or the end: then `returncode` is set and nothing else.

    The return code is as a shell says it: 128 + n for a command that signal n ended.
    """

    stdout: str = ""
    stderr: str = ""
    returncode: int | None = None


class ShellResult(NamedTuple):
    """All that a command said, and its return code."""

    stdout: str
    stderr: str
    returncode: int
