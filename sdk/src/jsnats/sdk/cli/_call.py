"""`jsnats call` and `jsnats stream`.

Their words are read here and not by Typer: most of them belong to the method, and these two commands stand in scripts
and hooks, where Typer and what it imports would be half of their time (measured: 0.62 s, without it 0.29 s).
Behind `--`, or written `name=value`, a word always belongs to the method.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._target import Target

_COMMON = """\
  --timeout S     Seconds after which the exporter ends the call.
  --json          Print JSON.
  --nats URL      The broker.
  --context FILE  Context file: who we are and where the broker is.
  --help          This text; with a method, what it does and takes."""

CALL_HELP = f"""\
Usage: jsnats call [OPTIONS] EXPORTER.PATH.METHOD [ARGUMENT]...

  Call a method of a driver and print its result. Arguments are given in order, as --name value, or as name=value;
  arrays and objects as JSON, bytes as text or @file, files by their path: they are uploaded first. What stands behind
  -- belongs to the method.

Options:
  --detach        Let it run on its own; print its job id.
{_COMMON}

Example: jsnats call bench-1.dut.power.cycle --wait 2"""

STREAM_HELP = f"""\
Usage: jsnats stream [OPTIONS] EXPORTER.PATH.METHOD [ARGUMENT]...

  Print what a method yields, one item on a line as it comes; with --json each line is JSON.

Options:
  --limit N       End after N items.
{_COMMON}

Example: jsnats stream bench-1.dut.power.read --limit 3"""


@dataclass(slots=True)
class Words:
    """The words of the command line: our options, the method, and what is the method's."""

    subject: str = ""
    rest: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)

    def number(self, name: str, kind: type[int] | type[float]) -> Any:
        """The value of an option as a number, None when it was not given. Raises ConfigurationError."""
        from jsnats.schemas import ConfigurationError

        text = self.values.get(name)
        try:
            value = kind(text) if text is not None else None
        except ValueError:
            value = -1
        if value is not None and value < 0:
            raise ConfigurationError(f"--{name} takes a number from 0 on, not {text!r}")
        return value

    @property
    def context(self) -> Path | None:
        """The context file that was named."""
        return Path(self.values["context"]) if "context" in self.values else None


def read_words(words: Sequence[str], flags: Sequence[str], valued: Sequence[str]) -> Words:
    """Sort the words. Raises ConfigurationError for an option without its value."""
    found = Words()
    left = iter(words)
    for word in left:
        if word == "--":
            break
        name, equals, text = word[2:].partition("=") if word.startswith("--") else ("", "", "")
        if name in flags and not equals:
            found.flags.add(name)
        elif name in valued:
            found.values[name] = text if equals else _next(left, name)
        elif found.subject:
            found.rest.append(word)
        elif word.startswith("-"):
            raise _refused(f"there is no option {word}: options of a method stand behind its name")
        else:
            found.subject = word
    for word in left:
        found.subject, found.rest = (found.subject, [*found.rest, word]) if found.subject else (word, found.rest)
    return found


def _next(left: Iterator[str], name: str) -> str:
    value = next(left, None)
    if value is None:
        raise _refused(f"--{name} needs a value")
    return value


def _refused(message: str) -> Exception:
    from jsnats.schemas import ConfigurationError

    return ConfigurationError(message)


def run_call(words: Sequence[str]) -> None:
    """`jsnats call`."""
    found = read_words(words, ("detach", "json", "help"), ("timeout", "nats", "context"))
    _run("call", CALL_HELP, found)


def run_stream(words: Sequence[str]) -> None:
    """`jsnats stream`."""
    found = read_words(words, ("json", "help"), ("timeout", "limit", "nats", "context"))
    _run("stream", STREAM_HELP, found)


def _run(command: str, text: str, found: Words) -> None:
    if not found.subject:
        if "help" not in found.flags:
            raise _refused("name a method, as in bench-1.dut.power.on (see jsnats call --help)")
        print(text)
        return
    from ._target import find_target, lab_of

    with lab_of(found.values.get("nats"), found.context) as lab:
        target = find_target(lab, found.subject)
        if "help" in found.flags:
            _show_help(f"jsnats {command} {found.subject}", target)
        elif "detach" in found.flags:
            _detach(target, found)
        elif target.method.kind == "stream":
            _print_items(target, found)
        elif command == "stream":
            raise _refused(f"{found.subject} yields nothing: use `jsnats call {found.subject}`")
        else:
            _call_once(target, found)


def _show_help(usage: str, target: Target) -> None:
    from ._describe import method_help

    print(method_help(usage, target.name, target.method))


def _call_once(target: Target, found: Words) -> None:
    from jsnats.sdk import Options

    from ._arguments import parse_arguments
    from ._output import print_result, progress_line
    from ._uploads import call_once

    if target.method.kind == "bytes":
        raise _refused(f"{target.subject} is a two-way byte stream: use the command of its driver, `j`")
    given = parse_arguments(found.rest, target.method, target.name)
    with progress_line() as progress:
        options = Options(timeout_s=found.number("timeout", float), on_progress=progress, claim=target.channel.claim)
        result = call_once(target.channel, target.node, target.name, given, options)
    print_result(result, "json" in found.flags)


def _detach(target: Target, found: Words) -> None:
    from ._arguments import parse_arguments
    from ._output import print_json
    from ._uploads import send_files

    channel = target.channel
    given = send_files(channel, parse_arguments(found.rest, target.method, target.name))
    job = channel.run(channel.detach(target.node, target.name, given.args, given.kwargs))
    print_json({"job": job}) if "json" in found.flags else print(job)


def _print_items(target: Target, found: Words) -> None:
    from contextlib import closing
    from itertools import islice

    from jsnats.sdk import Options

    from ._arguments import parse_arguments
    from ._output import print_item
    from ._uploads import send_files

    given = send_files(target.channel, parse_arguments(found.rest, target.method, target.name))
    options = Options(timeout_s=found.number("timeout", float), claim=target.channel.claim)
    limit = found.number("limit", int)
    opened: Any = target.channel.drain(target.node, target.name, given.args, given.kwargs, options)
    with closing(opened) as items:
        for item in islice(items, limit):
            print_item(item, "json" in found.flags)


QUICK = {"call": run_call, "stream": run_stream}


def quick(words: Sequence[str]) -> bool:
    """Say whether these words of a `jsnats` command line are for one of the commands here, and nothing else."""
    return bool(words) and words[0] in QUICK and "_JSNATS_COMPLETE" not in os.environ
