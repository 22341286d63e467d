"""What commands print: results, tables, progress. Plain text, the same in a terminal and in a pipe."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jsnats.schemas import encode_json
from jsnats.schemas._codec import json_ready

QUIET_S = 1.0
"""Calls shorter than this show no progress."""


def print_json(value: Any, *, indent: int | None = None) -> None:
    """Print a value as strict JSON, on one line unless indented."""
    text = json.dumps(json_ready(value), indent=indent, ensure_ascii=False) if indent else encode_json(value).decode()
    print(text, flush=indent is None)


def print_result(value: Any, as_json: bool) -> None:
    """Print what a method returned: text as it is, bytes raw, nothing for None, anything else as JSON."""
    if as_json:
        print_json(value)
    elif isinstance(value, bytes):
        _print_bytes(value)
    elif isinstance(value, str):
        print(value, flush=True)
    elif value is not None:
        print_json(value, indent=2 if isinstance(value, (dict, list)) else None)


def print_item(value: Any, as_json: bool) -> None:
    """Print one item of a stream on one line, at once; bytes raw, without a line of their own."""
    if as_json or not isinstance(value, (str, bytes)):
        print_json(value)
    else:
        print_result(value, as_json=False)


def _print_bytes(value: bytes) -> None:
    if sys.stdout.isatty():
        print(f"{len(value)} bytes: redirect them to a file, or use --json for base64")
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(value)
    sys.stdout.buffer.flush()


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns under their names."""
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


class Progress:
    """Shows the progress of a call on one line of stderr, from the second second on."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._width = 0

    def __call__(self, content: dict[str, Any]) -> None:
        """Show a progress message: a map with done, total, message."""
        elapsed = time.monotonic() - self._begin
        if elapsed >= QUIET_S:
            self._show(f"{elapsed:.0f} s {_share(content)}{content.get('message') or ''}".rstrip())

    def _show(self, text: str) -> None:
        sys.stderr.write(f"\r{text:<{self._width}}")
        sys.stderr.flush()
        self._width = len(text)

    def clear(self) -> None:
        """Leave the line empty for what comes next."""
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()


def _share(content: dict[str, Any]) -> str:
    done, total = content.get("done"), content.get("total")
    if isinstance(done, (int, float)) and isinstance(total, (int, float)) and total > 0:
        return f"{100 * done / total:.0f} % "
    return f"{done} " if done is not None else ""


@contextmanager
def progress_line() -> Iterator[Progress | None]:
    """Progress for one call; None when stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    progress = Progress()
    try:
        yield progress
    finally:
        progress.clear()
