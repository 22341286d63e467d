"""`j`: the drivers of one exporter as commands, in the environment that `jsnats up` makes.

`j dut power on` walks the tree to the client of dut.power and runs that client's own command with `on`.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ._guard import exit_code

if TYPE_CHECKING:
    from jsnats.client import DriverClient

_USAGE = """\
Usage: j [DRIVER]... COMMAND [ARGS]...

  Run a command of a driver of the exporter that this shell works with (JSNATS_EXPORTER). Without a command, list what
  there is; behind one, --help tells more.

Example: j dut power on
"""


def j_main() -> None:
    """Entry point of `j`."""
    if instruction := os.environ.get("_J_COMPLETE"):
        from ._j_complete import answer_shell

        sys.exit(exit_code(lambda: answer_shell(instruction)))
    sys.exit(exit_code(lambda: _run(sys.argv[1:])))


def _run(words: list[str]) -> object:
    exporter = os.environ.get("JSNATS_EXPORTER", "")
    if words[:1] == ["--help"]:
        print(_USAGE, end="")
        if not exporter:
            return 0
        words = words[1:]
    if not exporter:
        from jsnats.schemas import ConfigurationError

        raise ConfigurationError(
            "JSNATS_EXPORTER is not set: run j inside `jsnats shell -l board=...` or `jsnats up exporter.yaml`"
        )
    from jsnats.sdk import connect

    with connect() as lab:
        return run_words(lab.exporter(exporter), words)


def run_words(root: DriverClient, words: list[str]) -> object:
    """Go down the tree as far as the words name children, and run the command of the client found there."""
    client, rest = descend(root, words)
    prog = " ".join(["j", *words[: len(words) - len(rest)]])
    if rest:
        _check_dots(client, rest[0], prog)
    return _run_found(client, rest, prog)


def descend(root: DriverClient, words: list[str]) -> tuple[DriverClient, list[str]]:
    """The client that the first words lead to, and the words behind them."""
    client = root
    for index, word in enumerate(words):
        if word not in client.children:
            return client, words[index:]
        client = client.children[word]
    return client, []


def _check_dots(client: DriverClient, word: str, prog: str) -> None:
    """Raise ConfigurationError for a path as `jsnats call` has it."""
    head, _, rest = word.partition(".")
    path = rest if head == client.exporter else word
    if "." in word and path.partition(".")[0] in client.children:
        from jsnats.schemas import ConfigurationError

        raise ConfigurationError(f"{prog} takes a path with spaces: {prog} {path.replace('.', ' ')}")


def _run_found(client: DriverClient, words: list[str], prog: str) -> object:
    command = client.cli()
    alone = getattr(command, "invoke_without_command", False)  # it says that no words are words, too
    if words not in ([], ["--help"]) or (alone and not words):
        return command.main(words, prog_name=prog, standalone_mode=False)
    command.main(["--help"], prog_name=prog, standalone_mode=False)
    # A driver's own command knows nothing of the children below it.
    hidden = [name for name in client.children if name not in getattr(command, "commands", {})]
    if hidden:
        print(f"\nDrivers below it: {', '.join(hidden)}")
    return 0
