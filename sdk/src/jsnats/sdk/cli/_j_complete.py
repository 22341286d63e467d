"""What the shell offers behind `j`: the tree, then the commands and options of the driver's own client.

The protocol is click's: `_J_COMPLETE=bash_source j` prints the function for the shell, which calls `j` again with
`_J_COMPLETE=bash_complete` and the words so far. zsh and fish have theirs. `jsnats up` switches it on in its bash.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from ._complete import ask
from ._j import descend

if TYPE_CHECKING:
    from jsnats.client import DriverClient

VARIABLE = "_J_COMPLETE"


def answer_shell(instruction: str) -> None:
    """Print what `<shell>_source` or `<shell>_complete` asks for. Raises ConfigurationError for another shell."""
    shell, _, verb = instruction.partition("_")
    kind = get_completion_class(shell)
    if kind is None:
        from jsnats.schemas import ConfigurationError

        raise ConfigurationError(f"{VARIABLE}={instruction}: use bash_source, zsh_source or fish_source")
    completion = kind(click.Group("j"), {}, "j", VARIABLE)
    if verb == "source":
        # Where nothing is offered bash shall offer files: many commands take one, or something else.
        print(completion.source().replace("complete -o nosort", "complete -o nosort -o default"))
        return
    words, incomplete = completion.get_completion_args()
    exporter = os.environ.get("JSNATS_EXPORTER", "")
    for item in ask(lambda lab: offers(lab.exporter(exporter), words, incomplete)):
        print(completion.format_completion(item))


def offers(root: DriverClient, words: list[str], incomplete: str) -> list[CompletionItem]:
    """The words that may stand at the place of `incomplete`, behind `words`."""
    client, rest = descend(root, words)
    found = _of_command(client.cli(), rest, incomplete)
    if rest:
        return found
    known = {item.value for item in found}
    below = [CompletionItem(name, help=child.description) for name, child in client.children.items()]
    return found + [item for item in below if item.value.startswith(incomplete) and item.value not in known]


def _of_command(command: object, words: list[str], incomplete: str) -> list[CompletionItem]:
    if not isinstance(command, click.Command):  # of Typer's own copy of click, which answers in other classes
        return []
    return ShellComplete(command, {}, "j", VARIABLE).get_completions(words, incomplete)
