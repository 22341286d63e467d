"""`jsnats broker backup` and `restore`. What they need is imported when they run, so that `--help` stays fast."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar

import typer

from .cli import Dir, Json, broker_app, one_line_errors, print_json, refuse

if TYPE_CHECKING:
    from ._archive import Contents, Writer
    from ._backup import Progress, Saved
    from ._lab_dir import LabDir

_Result = TypeVar("_Result")


class Part(StrEnum):
    """What a backup may go without."""

    blobs = "blobs"
    console = "console"
    logs = "logs"
    events = "events"


@broker_app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write; - for standard output.")],
    directory: Dir = None,
    without: Annotated[
        list[Part] | None, typer.Option(help="Leave that out: files (blobs), consoles, logs, events.")
    ] = None,
    creds: Annotated[
        bool, typer.Option("--creds", help="With everybody's context file: whoever has the archive can be anybody.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Save a lab that runs into one archive: streams, records, who may connect, settings.

    Nothing stops meanwhile. Only the owner can read the archive: it has what consoles said, and passwords of MQTT.

    Example: jsnats broker backup lab-monday.tar

    Example: jsnats broker backup - --without blobs | gpg -e -r me > lab.tar.gpg
    """
    from ._lab_dir import LabDir

    to_pipe = str(file) == "-"
    with one_line_errors():
        if to_pipe and (sys.stdout.isatty() or as_json):
            refuse("the archive goes to standard output: lead that into a file or a pipe, and leave out --json")
        begin = time.monotonic()
        with _standard_output() if to_pipe else _new_file(file) as output, _bar("saving") as progress:
            work = _back_up(LabDir(directory), output, [part.value for part in without or ()], creds, progress)
            saved, size = _run(work)
    if as_json:
        streams = [{"stream": each.stream, "messages": each.messages, "bytes": each.bytes} for each in saved]
        print_json(
            {"file": str(file), "bytes": size, "seconds": round(time.monotonic() - begin, 1), "streams": streams}
        )
        return
    _tell_saved(saved, size, time.monotonic() - begin, err=to_pipe)


@broker_app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="An archive of `jsnats broker backup`.")],
    directory: Dir = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="A lab that is there is moved aside; data at servers outside is deleted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a lab from an archive: a new directory, or what `jsnats broker config` named, one server or a cluster.

    Everybody comes in with the context file that he has. A damaged archive changes nothing, and a lab is there as a
    whole or not at all. Then `jsnats broker run`, or for servers outside `jsnats broker serve`.

    Example: jsnats broker restore lab-monday.tar --dir /srv/lab
    """
    from ._lab_dir import LabDir
    from ._restore_lab import restore_lab

    with one_line_errors(), _bar("restoring") as progress:
        lab = LabDir(directory)
        was_site = lab.leaf() is not None
        contents, aside = _run(restore_lab(file, lab, replace=replace, progress=progress))
    if as_json:
        print_json(_about(contents, lab, aside))
        return
    if aside:
        typer.echo(f"aside      {aside}")
    typer.echo(f"restored   {lab.path}, as of {_date(contents.lab['made'])}")
    if lab.leaf() and not was_site:
        typer.echo("site       its servers have to be started again, to dial its hub")
    typer.echo(f"next       jsnats broker {'serve' if lab.outside() else 'run'}{lab.option}")


def _about(contents: Contents, lab: LabDir, aside: Path | None) -> dict[str, Any]:
    return {
        "directory": str(lab.path),
        "made": contents.lab["made"],
        "without": contents.lab["without"],
        "principals": len(contents.lab["principals"]),
        "messages": {name: about["state"]["messages"] for name, about in contents.streams.items()},
        "aside": str(aside) if aside else None,
    }


async def _back_up(
    lab: LabDir, output: BinaryIO, without: list[str], creds: bool, progress: Progress
) -> tuple[list[Saved], int]:
    from ._archive import Writer
    from ._at_broker import at_broker
    from ._backup import back_up

    async with at_broker(lab, "backup") as nc:
        archive: Writer = Writer(output)
        saved = await back_up(lab, nc, archive, without=without, creds=creds, progress=progress)
    return saved, archive.size


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that is there when it is whole, and only for its owner."""
    part = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        refuse(f"cannot write {path}: {error.strerror}")
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        part.replace(path)
    except OSError as error:
        if error.filename or error.errno is None:
            raise
        refuse(f"cannot write {path}: {error.strerror}")
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    from jsnats.sdk.cli import transfer_bar

    with transfer_bar(label) as progress:
        yield progress or (lambda done, total: None)


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run it; SIGTERM ends it as Ctrl-C does, so that nothing is left half done."""
    import asyncio
    import signal

    async def cancellable() -> _Result:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _tell_saved(saved: list[Saved], size: int, seconds: float, *, err: bool) -> None:
    from jsnats.sdk import size_text

    for each in saved:
        typer.echo(f"{each.stream:<20} {each.messages:>10}  {size_text(each.bytes):>9}", err=err)
    typer.echo(f"{'archive':<20} {'':>10}  {size_text(size):>9} in {seconds:.1f} s", err=err)


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
