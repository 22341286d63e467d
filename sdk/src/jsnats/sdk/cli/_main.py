"""The group of all sub-commands. It lists them by name and help without importing any; the one that is used is loaded.

Sub-commands are those of the SDK, in the table below, and those that distributions register under the entry point
group `jsnats.cli`: a Typer app, or a function that Typer can make a command of.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ._guard import exit_code
from ._options import ContextFile, Nats

GROUP = "jsnats.cli"

_OWN = {
    "ls": (f"{__package__}._lab:ls", "List the exporters of the lab."),
    "tree": (f"{__package__}._lab:tree", "Show the drivers of an exporter and their methods."),
    "call": (f"{__package__}._call_command:call", "Call a method of a driver."),
    "stream": (f"{__package__}._call_command:stream", "Print what a method yields, as it comes."),
    "console": (f"{__package__}._console:console", "Talk to a console, or read its record."),
    "shell": (f"{__package__}._lease_shell:shell", "Take exporters, and open a shell with them."),
    "run": (f"{__package__}._lease_shell:run", "Take exporters for one command."),
    "lease": (f"{__package__}._lease:lease_app", "Take boards, keep them, hand them on."),
    "queue": (f"{__package__}._lease:queue", "List who waits for exporters."),
    "exporter": (f"{__package__}._exporter:exporter_app", "Take exporters out of the lab and back, as an admin."),
    "events": (f"{__package__}._events:events", "Show what happened in the lab."),
    "logs": (f"{__package__}._events:logs", "Show what drivers and hooks have logged."),
    "history": (f"{__package__}._history:history", "Tell the story of an exporter."),
    "job": (f"{__package__}._job:job_app", "Follow or end calls that run without their caller."),
    "blob": (f"{__package__}._blob:blob_app", "Store files in the lab."),
    "version": (f"{__package__}._lab:version", "Print the version."),
}

# Entry points have no text of their own, and reading it from the command would import what it needs.
_SHORT = {
    "agent": "Host exporters next to the hardware.",
    "auth": "Say who may connect to the broker.",
    "broker": "Run the broker of a lab.",
    "driver": "Write drivers.",
    "scheduler": "Run one more scheduler of a lab.",
    "up": "Run a whole lab for one shell or command.",
}


class _LazyCommand(TyperCommand):
    """A name and a line of help; the real command takes over when a context is made of it."""

    def __init__(self, name: str, short: str, load: Callable[[], Any]) -> None:
        super().__init__(name, help=short, rich_markup_mode=None)
        self._load_target = load

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """The context of the real command."""
        return _command(self._load_target(), self.name or "").make_context(info_name, args, parent, **extra)


class LazyGroup(TyperGroup):
    """The root command."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Our own sub-commands, then the registered ones."""
        self._register()
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The sub-command of that name, None if there is none."""
        self._own()
        if cmd_name not in self.commands:
            self._register()
        return self.commands.get(cmd_name)

    def _own(self) -> None:
        for name, (target, short) in _OWN.items():
            if name not in self.commands:
                self.commands[name] = _LazyCommand(name, short, partial(_import, target))

    def _register(self) -> None:
        from importlib.metadata import entry_points

        self._own()
        for entry in sorted(entry_points(group=GROUP)):
            package = entry.dist.name if entry.dist else entry.module
            short = _SHORT.get(entry.name, f"Of {package}.")
            self.commands.setdefault(entry.name, _LazyCommand(entry.name, short, partial(_load, entry)))

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, and exit with the code that the outcome has."""
        _lighten(self)
        run: Callable[..., Any] = super().main
        if not extra.pop("standalone_mode", True):
            return run(*args, standalone_mode=False, **extra)
        sys.exit(exit_code(lambda: run(*args, standalone_mode=False, **extra)))


def _import(target: str) -> Any:
    from importlib import import_module

    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def _load(entry: Any) -> Any:
    from jsnats.schemas import ConfigurationError

    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"`jsnats {entry.name}` cannot be loaded from {entry.value}: {error}") from error


def _command(found: Any, name: str) -> Any:
    """A command made of a Typer app or a function, with plain help: rich takes longer to import than NATS."""
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command(name)(found)
        found = app
    found.rich_markup_mode = None
    found._add_completion = False
    command = typer.main.get_command(found)
    _lighten(command)
    return command


_PLAIN: dict[Any, Callable[[Any], Any]] = {str: str, Path: Path, bool: bool, list[str]: list}
_OURS = {"help", "nats", "context", "exporter", "job_id", "install_completion", "show_completion"} | {
    *("console", "watch", "since", "from_boot", "from_mark", "log", "search", "no_follow"),
    *("until", "timeout", "as_json", "timestamps", "follow", "kind", "path"),
    *("sha256", "file", "files", "name"),
    *("free", "selector", "duration", "priority", "wait", "no_wait", "note", "begin", "lease", "by", "reason"),
    *("user", "users", "comment"),
}


class _Plain:
    """Reads the value of an option that needs no checks."""

    def __init__(self, convert: Callable[[Any], Any]) -> None:
        self.convert = convert

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """As Typer's own."""
        return None if value is None else self.convert(value)


def _lighten(command: Any) -> None:
    """Spare our options pydantic, which Typer 0.29 imports (0.27 s) to turn text into text."""
    for param in [*command.params, command.get_help_option(typer.Context(command))]:
        convert = _PLAIN.get(getattr(getattr(param, "type_descriptor", None), "annotation", None))
        if convert and param.name in _OURS:
            param._runtime_param = _Plain(convert)
    for each in getattr(command, "commands", {}).values():
        _lighten(each)


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        _import(f"{__package__}._lab:version")()
        raise typer.Exit


@app.callback()
def _root(
    nats: Nats = None,
    context: ContextFile = None,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A lab of real devices on a NATS broker.

    Example: jsnats up exporter.yaml
    """
    name_broker(nats, context)


def name_broker(nats: str | None, context: Path | None) -> None:
    """Put what was named before the sub-command where everything below looks for it."""
    if nats:
        os.environ["JSNATS_URL"] = nats
    if context:
        os.environ["JSNATS_CONTEXT"] = str(context)


def run() -> None:
    """Run `jsnats` with Typer."""
    app(prog_name="jsnats")
