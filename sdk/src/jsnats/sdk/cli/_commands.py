"""click commands for a client: a sub-command for each exported method, and for each child."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from jsnats.client import DriverClient
from jsnats.client._resources import is_resource
from jsnats.schemas import ConfigurationError, MethodRecord

from ._arguments import parse_arguments
from ._describe import first_line, method_help
from ._output import print_item, print_result, progress_line
from ._uploads import call_once, send_files


def methods_command(client: DriverClient) -> click.Group:
    """A group with a command for each published method of `client`, and one for each child.

    The arguments are read by the published schema, as `jsnats call` reads them.
    """
    group = click.Group(help=client.description or f"The driver {client.path or client.exporter}.")
    for name, method in client.methods.items():
        command = MethodCommand(client, name, method)
        group.add_command(command, command.name)
    _add_children(group, client)
    return group


def children_command(client: DriverClient) -> click.Group:
    """A group with a command for each child, which runs the command of the child's own client; and for the methods
    that the node itself exports."""
    group = methods_command(client)
    group.help = client.description or f"The drivers of {client.path or client.exporter}."
    return group


def _add_children(group: click.Group, client: DriverClient) -> None:
    for name, child in client.children.items():
        if name not in group.commands:
            group.add_command(ChildCommand(child, name))


def run_client(client: DriverClient, words: list[str], prog: str) -> Any:
    """Run the client's own command. Its classes may be click's or another copy's, so it is run, not nested."""
    return client.cli().main(words, prog_name=prog, standalone_mode=False)


class _Words(click.Command):
    """A command that gets its words as they are, `--help` included."""

    def __init__(self, name: str, callback: Callable[..., Any], about: str) -> None:
        super().__init__(
            name,
            callback=callback,
            params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
            help=about,
            add_help_option=False,
            context_settings={"ignore_unknown_options": True},
        )


class ChildCommand(_Words):
    """Hands over to the command of a child."""

    def __init__(self, child: DriverClient, name: str) -> None:
        below = f"Drivers: {', '.join(child.children)}." if child.children else ""
        super().__init__(name, self._run, child.description or below or type(child).__name__)
        self.child = child

    def _run(self, words: tuple[str, ...]) -> Any:
        return run_client(self.child, list(words), click.get_current_context().command_path)


class MethodCommand(_Words):
    """Calls an exported method."""

    def __init__(self, client: DriverClient, name: str, method: MethodRecord) -> None:
        super().__init__(name.replace("_", "-"), self._run, first_line(method.doc))
        self.client, self.method_name, self.method = client, name, method

    def get_help(self, ctx: click.Context) -> str:
        """The method's documentation, arguments and result."""
        return method_help(ctx.command_path, self.method_name, self.method)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names of its arguments; for another word a file, if it takes one."""
        properties = self.method.params.get("properties", {})
        if not incomplete.startswith("-"):
            files = any(is_resource(schema) for schema in properties.values())
            return [CompletionItem(incomplete, type="file")] if files else []
        names = [f"--{name}" for name in [*properties, "help", "json"]]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    def _run(self, words: tuple[str, ...]) -> None:
        context = click.get_current_context()
        if "--help" in words:
            click.echo(self.get_help(context))
            return
        as_json = "--json" in words
        given = parse_arguments([word for word in words if word != "--json"], self.method, self.method_name)
        if self.method.kind == "bytes":
            raise ConfigurationError(f"{context.command_path} is a two-way byte stream, which has no plain command")
        channel, node = self.client._channel, self.client._node
        if self.method.kind == "stream":
            given = send_files(channel, given)
            for item in self.client.streamingcall(self.method_name, *given.args, **given.kwargs):
                print_item(item, as_json)
            return
        with progress_line() as progress:
            options = self.client.options(on_progress=progress)._options
            result = call_once(channel, node, self.method_name, given, options)
        print_result(result, as_json)
