"""`jsnats events`, `jsnats logs`: what happened and what was logged, as lines or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ._complete import complete_exporter
from ._options import ContextFile, Json, Nats

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from jsnats.sdk import Lab

    from .._events import StoredEvent

T = TypeVar("T")

LATELY = "1h"

SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="Begin there: 10m, 2h, 1d, 03:14, a date. With --follow: show that first.",
        show_default=f"{LATELY}; with --follow, now",
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")]


def events(
    exporter: Annotated[
        str,
        typer.Argument(metavar="EXPORTER", help="Only of that one; `lab`: of none.", autocompletion=complete_exporter),
    ] = "",
    follow: Follow = False,
    since: SinceOption = None,
    kind: Annotated[str, typer.Option("--type", metavar="TYPE", help="As lease.granted or 'lease.*'.")] = "",
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Show what happened in the lab: leases, exporters, calls, hooks, consoles, and what drivers tell.

    The time is the broker's. --json prints each event as it was published, with that time as `stored`.

    Example: jsnats events bench-1 --since 1d --type 'lease.*'
    """
    from jsnats.schemas import LAB_SOURCE

    from ._target import lab_of

    begin = since or (None if follow else LATELY)
    with lab_of(nats, context) as lab:

        def check() -> None:
            if exporter not in ("", LAB_SOURCE):
                _check_place(lab, exporter, "", lambda: lab.events(exporter=exporter))

        shown = 0
        for event in _checked(lab.events(exporter=exporter, type=kind, since=begin, follow=follow), check, follow):
            print(_json_of(event) if as_json else _line(event), flush=follow)
            shown += 1
    if not shown:
        _say_nothing("no such events", begin)


def logs(
    exporter: Annotated[str, typer.Argument(metavar="EXPORTER", autocompletion=complete_exporter)],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Only the driver there, and those below.")] = "",
    follow: Follow = False,
    since: SinceOption = None,
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Show what the drivers and hooks of an exporter have logged. The time is the exporter's.

    Example: jsnats logs bench-1 dut.power -f --since 10m
    """
    from jsnats.schemas import LogRecord

    from ._event_words import stamp
    from ._target import lab_of

    def line(record: LogRecord) -> str:
        place = f"{record.path}: " if record.path else ""
        return f"{stamp(record.time)}  {record.level:<7}  {place}{_block(record.message)}"

    begin = since or (None if follow else LATELY)
    with lab_of(nats, context) as lab:

        def check() -> None:
            _check_place(lab, exporter, path, lambda: lab.logs(exporter, path=path))

        shown = 0
        for record in _checked(lab.logs(exporter, path=path, since=begin, follow=follow), check, follow):
            print(record.encode().decode() if as_json else line(record), flush=follow)
            shown += 1
    if not shown:
        _say_nothing("nothing was logged", begin)


def _checked(found: Iterable[T], check: Callable[[], None], follow: bool) -> Iterator[T]:
    """Yield what is found. A wrong name is refused before what comes is awaited, and when there was nothing."""
    if follow:
        check()
    nothing = True
    for each in found:
        nothing = False
        yield each
    if nothing:
        check()


def _check_place(lab: Lab, exporter: str, path: str, stored: Callable[[], Generator[object, None, None]]) -> None:
    """Raises MethodNotFound, which says what there is, for what is not in the lab and has left nothing there."""
    from contextlib import closing

    from jsnats.schemas import MethodNotFound

    from ._target import node_at

    try:
        tree = lab.tree(exporter)
        if path:
            node_at(tree, path)
    except MethodNotFound:
        with closing(stored()) as left:
            if next(left, None) is None:
                raise


def _line(event: StoredEvent) -> str:
    from ._event_words import place, stamp, words

    return f"{stamp(event.stored)}  {place(event):<20}  {words(event)}"


def _json_of(event: StoredEvent) -> str:
    from datetime import UTC, datetime

    from jsnats.schemas import decode_json, encode_json

    stored = datetime.fromtimestamp(event.stored, UTC).isoformat(timespec="milliseconds")
    return encode_json({**decode_json(event.encode()), "stored": stored}).decode()


def _block(text: str) -> str:
    """A message of several lines, indented, without what a terminal acts on."""
    from ._console_output import plain

    return "\n    ".join(plain(text.encode(errors="replace")).rstrip().splitlines())


def _say_nothing(what: str, since: str | None) -> None:
    typer.echo(f"{what} since {since}: --since 1d looks further back", err=True)
