"""The directory of a lab that lasts as long as one `jsnats up`, and those that a killed one has left."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jsnats.broker import abandoned

PREFIX = "jsnats-up-"


@contextmanager
def lab_directory(named: Path | None) -> Iterator[Path]:
    """The directory that was named, else a temporary one, removed at the end."""
    if named:
        yield named
        return
    remove_abandoned()
    temporary = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove the temporary labs of processes that were killed: they hold credentials, and up to a store of files."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), abandoned(path) as dead:  # OSError: it is another user's
            if dead:
                shutil.rmtree(path, ignore_errors=True)
