"""U-Boot's environment as it is written and read: quotes for its hush shell, and the output of `printenv`."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.:,+/@-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BEGIN = re.compile(r"([^\s=]+)=(.*)", re.DOTALL)
_SIZE = re.compile(r"\n*Environment size: \d+/\d+ bytes\s*\Z")


def checked_line(text: str, what: str) -> str:
    """Return the text if it can be typed. Raises ValueError: U-Boot's line editor takes control characters as keys."""
    if found := _CONTROL.search(text):
        raise ValueError(
            f"{what} has {found.group()!r} in it: U-Boot's console takes printable characters, in one line"
        )
    return text


def checked_command(command: str) -> str:
    """Return the command without the spaces around it. Raises ValueError; an empty one repeats the last there was."""
    if not (line := checked_line(command, "the command").strip(" ")):
        raise ValueError("the command is empty")
    return line


def checked_name(name: str) -> str:
    """Return the name of a variable. Raises ValueError for one that the shell would take for something else."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a variable: letters, digits and _ . : , + / @ -")
    return name


def quoted(value: str) -> str:
    """Return the value as one word of a command.

    Nothing is expanded between single quotes, but a backslash still takes the next character, unlike in other shells.
    """
    inside = value.replace("\\", "\\\\").replace("'", "'\\''")
    return f"'{inside}'"


def assignment(name: str, value: str | None) -> str:
    """Return the command that sets a variable, or with None removes it. Raises ValueError."""
    command = f"setenv {checked_name(name)}"
    return command if value is None else f"{command} {quoted(checked_line(value, f'the value of {name}'))}"


def variables(output: str) -> dict[str, str]:
    """Return what `printenv` said. A line that begins no variable belongs to the value before it."""
    found: dict[str, str] = {}
    last = ""
    for line in _SIZE.sub("", output).split("\n"):
        if begin := _BEGIN.fullmatch(line):
            last, found[begin[1]] = begin[1], begin[2]
        elif last:
            found[last] += f"\n{line}"
    return found
