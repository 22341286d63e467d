"""The commands `jsnats` and `j`.

    _main.py       the group of all sub-commands, each loaded when it is used
    _guard.py      errors, Ctrl-C and broken pipes, turned into one line and an exit code
    _options.py    the options that many commands share
    _lab.py        `jsnats ls`, `tree`, `version`
    _call.py       `jsnats call`, `stream`; _call_command.py shows them to Typer
    _job.py        `jsnats job`
    _console.py    `jsnats console`; _console_click.py is that of `j`, _console_run.py what both do, _console_attach.py
                   talks to a device, _console_tty.py has terminal and keys, _console_output.py shows records
    _lease.py      `jsnats lease`, `jsnats queue`; _lease_options.py are options, _lease_text.py is what is shown,
                   _lease_find.py knows abbreviated ids, _lease_wait.py shows how one waits
    _lease_shell.py `jsnats shell`, `jsnats run`; _lease_session.py is what they do
    _exporter.py   `jsnats exporter`
    _events.py     `jsnats events`, `logs`; _event_words.py says what happened
    _history.py    `jsnats history`; _story.py makes a story of events
    _blob.py       `jsnats blob`; _progress.py is what is told of a transfer, _uploads.py
                   files as arguments of a call
    _target.py     "bench-1.dut.power.on", found in what the exporter published
    _arguments.py  the words of a command line, turned into the arguments of a method by its schema
    _describe.py   a schema in words: signatures and the help of a method
    _output.py     results, tables and progress
    _complete.py   what the shell offers for the name of a method
    _j.py          `j`, in the environment of an exporter; _j_complete.py is what the shell offers behind it
    _systemd.py    `install --systemd`, of services of any part
    _commands.py   click commands for a client: of its methods, of its children
    _shell.py      the shell or command that runs with that environment

`jsnats` is Typer, `j` and the commands of drivers are click. Typer has its own copy of click's classes, so the two
are never nested. Names load on first use: `jsnats --help` pays for neither NATS nor click.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._commands import children_command, methods_command
    from ._console_click import console_command
    from ._describe import signature, type_name
    from ._guard import exit_code
    from ._j import j_main
    from ._lease_text import place_text
    from ._options import UNITS, ContextFile, Json, Nats, Systemd, UnitFolder
    from ._output import progress_line
    from ._progress import transfer_bar, transfer_line
    from ._shell import Session, run_session, until_signal
    from ._systemd import CREDENTIALS, Unit, install_unit

__all__ = [
    "CREDENTIALS",
    "UNITS",
    "ContextFile",
    "Json",
    "Nats",
    "Session",
    "Systemd",
    "Unit",
    "UnitFolder",
    "children_command",
    "console_command",
    "exit_code",
    "install_unit",
    "j_main",
    "main",
    "methods_command",
    "place_text",
    "progress_line",
    "run_session",
    "signature",
    "transfer_bar",
    "transfer_line",
    "type_name",
    "until_signal",
]

_HOME = {
    "CREDENTIALS": "_systemd",
    "UNITS": "_options",
    "Systemd": "_options",
    "Unit": "_systemd",
    "UnitFolder": "_options",
    "install_unit": "_systemd",
    "ContextFile": "_options",
    "Json": "_options",
    "Nats": "_options",
    "Session": "_shell",
    "children_command": "_commands",
    "console_command": "_console_click",
    "exit_code": "_guard",
    "j_main": "_j",
    "methods_command": "_commands",
    "place_text": "_lease_text",
    "progress_line": "_output",
    "run_session": "_shell",
    "signature": "_describe",
    "transfer_bar": "_progress",
    "transfer_line": "_progress",
    "type_name": "_describe",
    "until_signal": "_shell",
}


def main() -> None:
    """Entry point of `jsnats`."""
    import sys

    from ._call import QUICK, quick

    words = sys.argv[1:]
    if quick(words):
        from ._guard import exit_code

        sys.exit(exit_code(lambda: QUICK[words[0]](words[1:])))
    from ._main import run

    run()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
