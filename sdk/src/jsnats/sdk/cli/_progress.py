"""What is told of a transfer, on stderr: a bar while it goes on, in a terminal only, and a line when a file is where it
should be."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ._output import progress_line


@contextmanager
def transfer_bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """What `on_progress` of an upload or download may be: it is told the bytes done and in all, from any thread."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    rest = (TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, *rest, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(label), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def transfer_line(done: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """As `progress_line`, for one call that takes a file. When it ends well a line says how large the file was, how
    long all of it took, and what of it was uploaded. `done` is what was done with it: `flashed`."""
    told, begin = Uploaded(), time.monotonic()
    with progress_line() as line:

        def tell(content: dict[str, Any]) -> None:
            told(content)
            if line:
                line(content)

        yield tell
    print(f"{done} {told.text(time.monotonic() - begin)}", file=sys.stderr)


class Uploaded:
    """Adds up what the `on_progress` of a client is told of its uploads. A file that is there already is told once, as
    done; of any other it is told first how much is there."""

    def __init__(self) -> None:
        self._size = self._sent = self._last = 0
        self._begun = False

    def __call__(self, content: dict[str, Any]) -> None:
        """Take a message."""
        if not content.get("message", "").startswith("uploading"):
            return
        done = content["done"]
        if self._begun and done > self._last:
            self._sent += done - self._last
        self._size, self._last, self._begun = content["total"], done, True

    def text(self, elapsed_s: float) -> str:
        """`30.0 MB in 1.2 s (25.0 MB/s), 4.2 MB uploaded`; only the time for what is not uploaded, as a URL."""
        from jsnats.sdk import size_text

        if not self._begun:
            return f"in {elapsed_s:.1f} s"
        speed = size_text(int(self._size / max(elapsed_s, 0.001)))
        sent = f"{size_text(self._sent)} uploaded" if self._sent else "already there, nothing uploaded"
        return f"{size_text(self._size)} in {elapsed_s:.1f} s ({speed}/s), {sent}"
