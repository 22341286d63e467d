"""`jsnats blob`: files in the lab's store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._options import ContextFile, Json, Nats

if TYPE_CHECKING:
    from jsnats.sdk import BlobInfo

blob_app = typer.Typer(help="Store files in the lab.", no_args_is_help=True)

Digest = Annotated[str, typer.Argument(metavar="SHA256", help="As `jsnats blob put` printed it.")]


@blob_app.command()
def put(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files to upload; - is standard input.")],
    name: Annotated[str, typer.Option(help="Name to show, instead of the file's.")] = "",
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Upload files and print the SHA-256 and the name of each. Only what the store lacks is sent.

    An upload that was interrupted goes on where it stopped: run it again.

    Example: jsnats blob put firmware.img
    """
    import sys

    from ._output import print_json
    from ._progress import transfer_bar
    from ._target import lab_of

    done: list[BlobInfo] = []
    with lab_of(nats, context) as lab:
        for file in files:
            source = sys.stdin.buffer if file == "-" else file
            with _named(file), transfer_bar(file) as bar:
                done.append(lab.blobs.put(source, name=name, on_progress=bar))
            if not as_json:
                print(f"{done[-1].sha256}  {done[-1].name}".rstrip(), flush=True)
    if as_json:
        print_json([_fields(each) | {"sent": each.sent} for each in done], indent=1)


@blob_app.command()
def get(
    sha256: Digest,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to write it; - is standard output.")],
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Download a file; it is written whole, and right, or not at all.

    Example: jsnats blob get 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 firmware.img
    """
    import sys

    from jsnats.schemas import BlobCorrupt, BlobNotFound

    from ._output import print_json
    from ._progress import transfer_bar
    from ._target import lab_of

    if as_json and file == "-":
        raise typer.BadParameter("standard output cannot have the file and JSON", param_hint="--json")
    with lab_of(nats, context) as lab, _named(file), transfer_bar(file) as bar:
        try:
            found = lab.blobs.get(sha256, sys.stdout.buffer if file == "-" else file, bar)
        except BlobCorrupt:
            with suppress(BlobNotFound):  # somebody else was faster
                lab.blobs.report_bad(sha256)  # or `put` would find it there and send nothing
            raise
    if as_json:
        print_json(_fields(found))


@blob_app.command("ls")
def list_blobs(as_json: Json = False, nats: Nats = None, context: ContextFile = None) -> None:
    """List the files you have uploaded, the last used first; an admin sees those of everybody.

    Example: jsnats blob ls
    """
    from ._output import print_json, print_table
    from ._target import lab_of

    with lab_of(nats, context) as lab:
        found = lab.blobs.ls()
    if as_json:
        print_json([_fields(each) | {"used": each.used} for each in found], indent=1)
    elif not found:
        typer.echo("you have no file in this lab: `jsnats blob put FILE` stores one", err=True)
    else:
        print_table(("SHA256", "SIZE", "USED", "OWNER", "NAME"), [_row(each) for each in found])


@blob_app.command()
def rm(
    sha256: Annotated[list[str], typer.Argument(metavar="SHA256...", help="Files of yours.")],
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Remove files of yours from the store.

    Example: jsnats blob rm 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
    """
    from ._output import print_json
    from ._target import lab_of

    with lab_of(nats, context) as lab:
        for each in sha256:
            lab.blobs.rm(each)
    if as_json:
        print_json({"removed": sha256})


@contextmanager
def _named(file: str) -> Iterator[None]:
    """Turn a fault of a local file into one line that names it."""
    from jsnats.schemas import ConfigurationError, JsnatsError

    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if isinstance(error, JsnatsError):
            raise
        raise ConfigurationError(f"{error.filename or file}: {error.strerror or error}") from error


def _fields(info: BlobInfo) -> dict[str, Any]:
    return {
        "sha256": info.sha256,
        "size": info.size,
        "name": info.name,
        "owner": info.owner,
        "created": info.created,
        "handle": info.handle,
    }


def _row(info: BlobInfo) -> tuple[str, ...]:
    from datetime import datetime

    from jsnats.sdk import size_text

    used = datetime.fromtimestamp(info.used).isoformat(" ", "minutes")
    return info.sha256, size_text(info.size), used, info.owner, info.name or "-"
